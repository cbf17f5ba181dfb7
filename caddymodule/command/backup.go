package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

func backupCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup <file>",
		Short: "Copies the inbox of a running gateway",
		Long: `
Copies an inbox of SQLite while it is in use: all of it, as it stands at one moment.
The copy comes over the admin endpoint and is checked before it gets its name:
it is sound, and has every event. Only its owner can read it (mode 0600). A
file that is there already is never replaced.

  caddy fotor-webhook backup /backup/default-2026-11-23.db
  caddy fotor-webhook backup --handler avatars avatars.db

Callbacks and deliveries go on meanwhile. To restore it, stop Caddy: see
docs/operations.md. An inbox on NATS has 'nats stream backup' instead.

--json prints one document: file, bytes, events.
` + exitHelp,
		Args: cobra.ExactArgs(1),
	}
	return env.adminCommand(cmd, func(ctx context.Context, s *session, args []string) error {
		return s.backup(ctx, args[0])
	})
}

// backedUp is what --json prints.
type backedUp struct {
	File   string `json:"file"`
	Bytes  int64  `json:"bytes"`
	Events int64  `json:"events"`
}

func (s *session) backup(ctx context.Context, file string) error {
	if err := mustNotExist(file); err != nil {
		return err
	}
	handler, err := s.chosen(ctx)
	if err != nil {
		return err
	}
	resp, err := s.client.open(ctx, call{path: []string{handler, "backup"}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	done, err := s.receive(ctx, resp, file)
	if err != nil {
		return fmt.Errorf("no backup was made: %w", err)
	}
	if s.json {
		document, err := json.Marshal(done)
		if err != nil {
			return err
		}
		s.printJSON(document)
		return nil
	}
	s.printf("Copied the inbox of %s to %s: %s events, %s, checked\n", handler, quoted(file), count(done.Events), size(done.Bytes))
	return nil
}

func mustNotExist(file string) error {
	switch file {
	case "":
		return errors.New("the name of the file is empty: expected that of a new file")
	case "-":
		return errors.New("a copy cannot go to standard output, as it gets its name only when it was checked: expected the name of a new file (./- for one that is named -)")
	}
	_, err := os.Lstat(file)
	switch {
	case err == nil:
		return fmt.Errorf("%s is there already: expected the name of a new file", file)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return nil
}

// receive stores the copy. It has another name beside the file until it is complete, on
// stable storage and checked.
func (s *session) receive(ctx context.Context, resp *http.Response, file string) (done *backedUp, err error) {
	module := resp.Header.Get(control.BackupInboxHeader)
	expected, err := strconv.ParseInt(resp.Header.Get(control.BackupEventsHeader), 10, 64)
	if err != nil || resp.ContentLength <= 0 {
		return nil, fmt.Errorf("the answer of %s is not what this version expects: its headers do not say what it holds", s.client.address)
	}
	dir, base := filepath.Split(file)
	part, err := os.CreateTemp(filepath.Clean(dir), "."+base+".*.part") // with mode 0600
	if err != nil {
		return nil, err
	}
	defer func() {
		if rerr := os.Remove(part.Name()); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}()
	err = s.download(part, resp)
	if err == nil {
		err = part.Sync()
	}
	if err = errors.Join(err, part.Close()); err != nil {
		return nil, err
	}
	events, err := verify(ctx, module, part.Name())
	switch {
	case err != nil:
		return nil, fmt.Errorf("checking the copy: %w", err)
	case events != expected:
		return nil, fmt.Errorf("the copy has %d events; expected %d", events, expected)
	}
	if err := mustNotExist(file); err != nil {
		return nil, err
	}
	if err := os.Rename(part.Name(), file); err != nil {
		return nil, err
	}
	return &backedUp{File: file, Bytes: resp.ContentLength, Events: events}, syncDir(dir)
}

func (s *session) download(to io.Writer, resp *http.Response) (err error) {
	var from io.Reader = resp.Body
	if s.stderrTerminal && !s.json {
		bar := s.newBar("Copied bytes", resp.ContentLength)
		defer func() { bar.end(err == nil) }()
		from = io.TeeReader(from, &counter{bar: bar})
	}
	n, err := io.Copy(to, from)
	if err == nil && n != resp.ContentLength {
		err = io.ErrUnexpectedEOF
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the copy broke off after %s of %s: Caddy's log says why", size(n), size(resp.ContentLength))
	}
	return err
}

// counter counts the bytes written to it, on a bar.
type counter struct {
	bar  *bar
	done int64
}

func (c *counter) Write(b []byte) (int, error) {
	c.done += int64(len(b))
	c.bar.set(c.done)
	return len(b), nil
}

// verify checks a copy with the inbox's module.
func verify(ctx context.Context, module, file string) (events int64, err error) {
	info, err := caddy.GetModule("http.fotor_webhook.inbox." + module)
	if err != nil {
		return 0, fmt.Errorf("it is of an inbox that this Caddy does not have: %w", err)
	}
	verifier, ok := info.New().(inbox.Verifier)
	if !ok {
		return 0, fmt.Errorf("the inbox module %q cannot check copies", module)
	}
	return verifier.Verify(ctx, file)
}

// syncDir makes the name of a new file durable, on systems that can sync directories.
func syncDir(dir string) error {
	d, err := os.Open(filepath.Clean(dir))
	if err != nil {
		return err
	}
	// Windows cannot sync directories; the file is sound all the same
	_ = d.Sync()
	return d.Close()
}
