package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

func init() {
	childParts["full disk"] = onFullDisk
}

// A file system of 24 MiB is really full. A child mounts it in a namespace of
// its own.
func TestReallyFullDisk(t *testing.T) {
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
	}
	c, err := childWith(t, "full disk", t.TempDir(), attr)
	if errors.Is(err, os.ErrPermission) {
		t.Log("this machine lets nobody mount a file system: TestFullDisk has to do")
		return
	}
	require.NoError(t, err)
	for c.out.Scan() {
		t.Log(c.out.Text())
	}
	require.NoError(t, c.cmd.Wait())
}

func onFullDisk(dir string) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=24m"); err != nil {
		if errors.Is(err, unix.EPERM) {
			fmt.Println("this machine lets nobody mount a file system: TestFullDisk has to do")
			return nil
		}
		return err
	}
	o := testOptions(filepath.Join(dir, "inbox.db"), defaultLimits)
	if err := withoutReserve(dir, o); err != nil {
		return fmt.Errorf("without the reserve: %w", err)
	}
	if err := fillAndEmpty(dir, o, inbox.DefaultDestination); err != nil {
		return err
	}
	o.path = filepath.Join(dir, "destinations.db")
	if err := fillAndEmpty(dir, o, childDestinations...); err != nil {
		return fmt.Errorf("with several destinations: %w", err)
	}
	return nil
}

// withoutReserve delivers on a disk that others have filled, including the
// reserve. The log cannot grow, so its space has to be reused.
func withoutReserve(dir string, o options) error {
	o.path = filepath.Join(dir, "other.db")
	s, err := open(context.Background(), o)
	if err != nil {
		return err
	}
	const n = 50
	for range n {
		if err := putOne(s, inbox.DefaultDestination); err != nil {
			return err
		}
	}
	if err := s.Close(); err != nil {
		return err
	}
	if s, err = open(context.Background(), o); err != nil {
		return err
	}
	for range n / 5 { // so that the log has some space
		if err := deliverAll(s.usual, 1); err != nil {
			return err
		}
	}
	if err := os.Remove(o.path + reserveSuffix); err != nil {
		return err
	}
	filler, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		return err
	}
	if err := fillRest(filler); err != nil {
		return err
	}
	for range n - n/5 {
		if err := deliverAll(s.usual, 1); err != nil {
			return err
		}
	}
	return errors.Join(s.Close(), os.Remove(filler.Name()), os.Remove(o.path))
}

// fillAndEmpty fills the disk, delivers nevertheless, and puts again: first
// into the space that retention freed in the file, then on the disk.
func fillAndEmpty(dir string, o options, destinations ...string) error {
	s, err := open(context.Background(), o)
	if err != nil {
		return err
	}
	var queues []inbox.Queue
	for _, name := range destinations {
		q, err := s.Queue(context.Background(), name)
		if err != nil {
			return err
		}
		queues = append(queues, q)
	}
	stored, err := fillDisk(s, dir, destinations...)
	if err != nil {
		return err
	}
	fmt.Println("events on the full disk:", stored)
	for _, q := range queues {
		if err := deliverAll(q, stored); err != nil {
			return fmt.Errorf("on the full disk: %w", err)
		}
	}
	if err := putOne(s, destinations...); !errors.Is(err, inbox.ErrFull) {
		return fmt.Errorf("put on a full disk: %w", err)
	}
	s.SetPolicy(inbox.Policy{Keep: time.Microsecond})
	if err := again(func() error { return putOne(s, destinations...) }); err != nil {
		return fmt.Errorf("when retention had made room in the file: %w", err)
	}
	if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
		return err
	}
	if err := again(func() error { return putOne(s, destinations...) }); err != nil {
		return fmt.Errorf("when the disk had room: %w", err)
	}
	if err := s.Close(); err != nil {
		return err
	}
	s, err = open(context.Background(), o)
	if err != nil {
		return err
	}
	stats, err := s.Stats(context.Background())
	if err == nil && stats.Events[inbox.Pending] != 2 {
		err = fmt.Errorf("two events were put again, but there are %v", stats.Events)
	}
	return errors.Join(err, s.Close(), os.Remove(o.path))
}

// fillDisk uses up some of the disk, puts events until it is full, and uses up
// the rest.
func fillDisk(s *store, dir string, destinations ...string) (stored int, err error) {
	filler, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		return 0, err
	}
	if _, err := filler.Write(make([]byte, 8<<20)); err != nil {
		return 0, err
	}
	for {
		if err = putOne(s, destinations...); err != nil {
			break
		}
		stored++
	}
	if !errors.Is(err, inbox.ErrFull) {
		return 0, err
	}
	return stored, fillRest(filler)
}

// fillRest writes until the disk is full.
func fillRest(filler *os.File) (err error) {
	for _, size := range []int{1 << 20, 4096} {
		for err = nil; err == nil; {
			_, err = filler.Write(make([]byte, size))
		}
	}
	if !errors.Is(err, unix.ENOSPC) {
		return err
	}
	return filler.Close()
}

// deliverAll delivers n events, in batches of one and more. Like a dispatcher,
// it retries outcomes that could not be stored.
func deliverAll(q inbox.Queue, n int) error {
	for n > 0 {
		leases, err := q.Lease(context.Background(), min(n, 1+n%17))
		if err != nil {
			return err
		}
		outcomes := make([]inbox.Outcome, len(leases))
		for i, l := range leases {
			outcomes[i] = inboxtest.Outcome(inbox.Deliver, l)
		}
		if err := again(func() error { return q.Settle(context.Background(), outcomes...) }); err != nil {
			return err
		}
		n -= len(leases)
	}
	return nil
}

func putOne(s *store, destinations ...string) error {
	_, err := s.Put(context.Background(), eventFor(destinations...))
	return err
}

// again calls f until it succeeds, or for 20 seconds.
func again(f func() error) error {
	for deadline := time.Now().Add(20 * time.Second); ; {
		err := f()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
}
