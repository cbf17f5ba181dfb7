package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

const (
	profileTime = 5 * time.Second

	// profileLoad is longer, so that the server is under load during the whole profile.
	profileLoad = profileTime + 2*time.Second
)

// profiles takes a CPU and a heap profile of each contender under load, in a round of its
// own, since profiling would distort the figures of the others.
func (b *bench) profiles(ctx context.Context) error {
	if err := os.MkdirAll(b.opts.profile, 0o750); err != nil {
		return err
	}
	for i := range b.opts.only {
		c := &b.opts.only[i]
		progress("%s: profiling", c.key)
		if err := b.profileOne(ctx, c); err != nil {
			return fmt.Errorf("profiling %s: %w", c.key, err)
		}
	}
	return nil
}

func (b *bench) profileOne(ctx context.Context, c *contender) error {
	s, stop, err := b.launch(ctx, c)
	if err != nil {
		return err
	}
	defer stop()
	if _, _, err := b.load(ctx, s, warmUp); err != nil {
		return err
	}
	meanwhile, err := s.accompany(ctx, c)
	if err != nil {
		return err
	}
	loaded := make(chan error, 1)
	go func() {
		_, _, err := b.load(ctx, s, profileLoad)
		loaded <- err
	}()
	err = s.saveProfiles(ctx, filepath.Join(b.opts.profile, c.key))
	errLoad := <-loaded
	for what, count := range meanwhile.stop() {
		progress("%s: %d × %s", c.key, count, what)
	}
	if errLoad != nil {
		return errLoad
	}
	return err
}

func (s *server) saveProfiles(ctx context.Context, prefix string) error {
	pprof := "http://" + s.admin + "/debug/pprof/"
	for _, p := range []struct{ url, file string }{
		{fmt.Sprintf("%sprofile?seconds=%d", pprof, int(profileTime.Seconds())), prefix + ".cpu.pprof"},
		{pprof + "heap", prefix + ".heap.pprof"},
	} {
		profile, err := get(ctx, p.url)
		if err != nil {
			return err
		}
		if err := os.WriteFile(p.file, profile, 0o600); err != nil {
			return err
		}
	}
	return nil
}
