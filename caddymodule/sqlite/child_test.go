package sqlite

import (
	"bufio"
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

const (
	childPart = "SQLITE_TEST_CHILD"
	childPath = "SQLITE_TEST_PATH"
)

func TestMain(m *testing.M) {
	if part := os.Getenv(childPart); part != "" {
		if err := childParts[part](os.Getenv(childPath)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	// Each check of the model opens files, so there are few unless the flag
	// says otherwise.
	if err := flag.Set("rapid.checks", "40"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// childParts are what this test binary does when it runs as a child. Each runs
// until it is killed.
var childParts = map[string]func(path string) error{
	"hold": func(path string) error {
		if _, err := openChild(path); err != nil {
			return err
		}
		fmt.Println("open")
		select {}
	},
	"put": putAndDeliver,
}

func openChild(path string) (*store, error) {
	l := defaultLimits
	l.logFrames, l.indexEntries, l.reserve = 50, 100, 4096
	l.leastPart, l.mostParts = 300, 4
	return open(context.Background(), testOptions(path, l))
}

// childDestinations are where the child's events go.
var childDestinations = []string{inbox.DefaultDestination, "app", "staging"}

// putAndDeliver stores events and prints the id of each that was acknowledged.
// It also delivers every second one, to each destination, and prints both.
func putAndDeliver(path string) error {
	s, err := openChild(path)
	if err != nil {
		return err
	}
	out := make(chan string, 64)
	errs := make(chan error, 10+len(childDestinations))
	for _, name := range childDestinations {
		q, err := s.Queue(context.Background(), name)
		if err != nil {
			return err
		}
		go func() { errs <- deliverSome(q, name, out) }()
	}
	for n := range 8 {
		go func() {
			for {
				e := newEvent()
				if n%2 == 1 {
					e.Destinations = childDestinations
				}
				if _, err := s.Put(context.Background(), e); err != nil {
					errs <- err
					return
				}
				out <- fmt.Sprintf("put %s %d", e.ID, n%2)
			}
		}()
	}
	for n := range 2 {
		go func() { errs <- trackSome(s, n == 0, out) }()
	}
	for {
		select {
		case line := <-out:
			fmt.Println(line)
		case err := <-errs:
			return err
		}
	}
}

// trackSome tracks tasks, by a notice or by hand, and puts the final event of every second
// one. It prints both. The events go nowhere, so that none waits for another.
func trackSome(s *store, notice bool, out chan<- string) error {
	ctx := context.Background()
	for n := 0; ; n++ {
		e := inboxtest.NewEvent(rand.Text(), inbox.InProgress)
		e.Track, e.Destinations = time.Now(), []string{}
		var err error
		if notice {
			_, err = s.Put(ctx, e)
		} else {
			_, err = s.Track(ctx, inbox.Task{ID: e.TaskID, Since: time.Now()})
		}
		if err != nil {
			return err
		}
		out <- fmt.Sprintf("tracked %s 0", e.TaskID)
		if n%2 == 0 {
			continue
		}
		final := inboxtest.NewEvent(e.TaskID, inbox.Completed)
		final.Destinations = []string{}
		if _, err := s.Put(ctx, final); err != nil {
			return err
		}
		out <- fmt.Sprintf("ended %s 0", e.TaskID)
	}
}

func deliverSome(q inbox.Queue, name string, out chan<- string) error {
	for {
		leases, err := q.Lease(context.Background(), 10)
		if err != nil {
			return err
		}
		for i, l := range leases {
			if i%2 == 1 {
				continue // leased until the end
			}
			o := inboxtest.Outcome(inbox.Deliver, l)
			if err := q.Settle(context.Background(), o); err != nil {
				return err
			}
			out <- fmt.Sprintf("delivered %s %s", l.Event.ID, name)
		}
	}
}

// child is this test binary run again as a child process.
type child struct {
	cmd *exec.Cmd
	out *bufio.Scanner
}

func startChild(t *testing.T, part, path string) *child {
	t.Helper()
	c, err := childWith(t, part, path, nil)
	require.NoError(t, err)
	return c
}

// childWith starts a child with attributes that may isolate it.
func childWith(t *testing.T, part, path string, attr *syscall.SysProcAttr) (*child, error) {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), exe) //nolint:gosec // it is this binary
	cmd.Env = append(os.Environ(), childPart+"="+part, childPath+"="+path)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = attr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	return &child{cmd: cmd, out: bufio.NewScanner(out)}, cmd.Start()
}

// line returns the next line that the child prints.
func (c *child) line(t *testing.T) string {
	t.Helper()
	require.True(t, c.out.Scan(), "the child has ended: %v", c.out.Err())
	return c.out.Text()
}

// kill kills the child and returns what else it printed.
func (c *child) kill(t *testing.T) (lines []string) {
	t.Helper()
	require.NoError(t, c.cmd.Process.Kill())
	for c.out.Scan() {
		lines = append(lines, c.out.Text())
	}
	require.Error(t, c.cmd.Wait())
	return lines
}
