package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/internal/caddybinary"
)

const (
	// readyTimeout bounds how long a server may take until its first 200.
	readyTimeout = 2 * time.Minute

	// readyPause is the time between two tries.
	readyPause = 2 * time.Millisecond
)

// server is a running contender.
type server struct {
	cmd     *exec.Cmd
	cancel  context.CancelFunc
	ended   chan struct{} // closed when the process has ended
	log     *os.File
	address string
	admin   string

	// dashboard is where the dashboard listens, if there is one.
	dashboard string

	begun time.Time
	ready time.Duration // from the start of the process to the first 200
}

// startServer runs Caddy with a contender's config and waits for its first 200, which
// answers the callback with that number.
func (b *bench) startServer(ctx context.Context, c *contender, number uint64) (*server, error) {
	return b.startServerAt(ctx, c, number, b.home(c))
}

func (b *bench) startServerAt(ctx context.Context, c *contender, number uint64, home string) (*server, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	admin, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	dashboard, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, err
	}
	config := filepath.Join(home, "Caddyfile")
	level := b.opts.log
	if level == "" {
		level = "WARN"
	}
	text := c.caddyfile(address, admin, filepath.Join(home, "storage"), level,
		places{upstream: b.upstream.address, inbox: b.inboxFile(c), nats: b.nats, dashboard: dashboard})
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}

	s := &server{address: address, admin: admin, dashboard: dashboard, ended: make(chan struct{})}
	if err := s.start(ctx, b.caddy, config, b.opts.log != ""); err != nil {
		return nil, err
	}
	if err := s.await(ctx, number); err != nil {
		s.stop()
		return nil, fmt.Errorf("%w; its log ends:\n%s", err, tail(s.log))
	}
	return s, nil
}

func (s *server) start(ctx context.Context, caddy, config string, show bool) error {
	home := filepath.Dir(config)
	log, err := os.Create(filepath.Join(home, "log"))
	if err != nil {
		return err
	}
	s.log = log
	ctx, s.cancel = context.WithCancel(ctx)
	s.cmd = command(ctx, caddy, "run", "--config", config, "--adapter", "caddyfile")
	s.cmd.Env = caddybinary.Environ(home)
	s.cmd.Stderr = log
	if show {
		s.cmd.Stderr = os.Stderr
	}
	s.begun = time.Now()
	if err := s.cmd.Start(); err != nil {
		s.cancel()
		return errors.Join(err, log.Close())
	}
	go func() {
		_ = s.cmd.Wait() // the log shows how it ended
		close(s.ended)
	}()
	return nil
}

// await sends the callback with that number until it is answered 200.
func (s *server) await(ctx context.Context, number uint64) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	body := appendCallback(nil, number)
	last := errors.New("no answer yet")
	for {
		status, err := post(ctx, "http://"+s.address+callbackPath, body)
		if err == nil && status == http.StatusOK {
			s.ready = time.Since(s.begun)
			return nil
		}
		if err == nil {
			err = fmt.Errorf("status %d", status)
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-s.ended:
			return errors.New("the server ended before it was ready")
		case <-ctx.Done():
			return fmt.Errorf("the server was not ready after %s: %w", readyTimeout, last)
		case <-time.After(readyPause):
		}
	}
}

// stop ends the process and waits until it has ended.
func (s *server) stop() {
	s.cancel()
	<-s.ended
	_ = s.log.Close()
}

// freeAddress returns a local address that nothing listens on.
func freeAddress(ctx context.Context) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}
