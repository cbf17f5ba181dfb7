// Package sqlite keeps the gateway's events in an SQLite file: the Caddy module
// http.fotor_webhook.inbox.sqlite.
//
// One goroutine owns the writing connection and commits whatever has gathered
// as one transaction, so that many callers share one sync of the disk. Events
// are rows in order of arrival that never change; what became of them is a
// small row beside each that is written when it is first settled. The one index
// with random keys, from tasks to events, is written in sorted batches.
package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/dustin/go-humanize"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	defaultMaxSize = 10 << 30
	minMaxSize     = 1 << 20
)

func init() {
	caddy.RegisterModule(new(Inbox))
}

// Inbox keeps the events in one SQLite file on a local disk. It needs nothing
// but that file; it creates it, and its directory, when it first starts.
//
// One process at a time can use a file, and one handler.
type Inbox struct {
	// The path of the file. Beside it SQLite keeps files of the same name
	// with -wal and -shm appended, and the inbox one with .lock, which tells
	// other processes that the file is in use, and one with .reserve, room of
	// up to 4 MiB that it gives up when the disk is full, so that deliveries
	// can still be recorded. Global placeholders are supported.
	// Default: fotor_webhook/<name>.db in Caddy's data directory.
	Path string `json:"path,omitempty"`

	// The size in bytes, used pages and write-ahead log, from which on no
	// more events are taken: callers are answered 503 and nothing is lost.
	// At least 1 MiB. Default: 10 GiB.
	MaxSize int64 `json:"max_size,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*Inbox) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.fotor_webhook.inbox.sqlite",
		New: func() caddy.Module { return new(Inbox) },
	}
}

// Provision resolves placeholders and sets defaults.
func (i *Inbox) Provision(caddy.Context) error {
	if i.Path != "" {
		path, err := caddy.NewReplacer().ReplaceOrErr(i.Path, true, true)
		if err != nil {
			return fmt.Errorf("inbox sqlite: path %q: %w", i.Path, err)
		}
		i.Path = path
	}
	if i.MaxSize == 0 {
		i.MaxSize = defaultMaxSize
	}
	return nil
}

// Validate reports a size limit that is too small to work with.
func (i *Inbox) Validate() error {
	if i.MaxSize < minMaxSize {
		return fmt.Errorf("inbox sqlite: max_size is %d bytes; it must be at least %s", i.MaxSize, humanize.IBytes(minMaxSize))
	}
	return nil
}

// Key names the file that Open would open: "sqlite:" and its absolute path, in
// which symbolic links are resolved as far as the path exists.
func (i *Inbox) Key(name string) string {
	return keyPrefix + i.file(name)
}

// Open opens the file, creates it if there is none, and proves with a durable
// write that it can store.
func (i *Inbox) Open(ctx context.Context, name string, p inbox.Policy, log *zap.Logger) (inbox.Inbox, error) {
	s, err := open(ctx, options{
		path:       i.file(name),
		configured: i.configured(name),
		maxSize:    i.MaxSize,
		policy:     p,
		log:        log,
		now:        time.Now,
		limits:     defaultLimits,
		schema:     schema,
	})
	if err != nil {
		return nil, fmt.Errorf("inbox sqlite: %w", err)
	}
	return s, nil
}

// Apply brings the size limit and the policy to an inbox that is open.
func (i *Inbox) Apply(in inbox.Inbox, p inbox.Policy) {
	if s, ok := in.(*store); ok {
		s.maxSize.Store(i.MaxSize)
	}
	in.SetPolicy(p)
}

// file is the absolute path of the handler's file, in which symbolic links are
// resolved.
func (i *Inbox) file(name string) string { return resolve(i.configured(name)) }

// configured is the absolute path as the config has it.
func (i *Inbox) configured(name string) string {
	path := i.Path
	if path == "" {
		path = filepath.Join(defaultDir(), name+".db")
	}
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return filepath.Clean(path)
}

// resolve follows the symbolic links in the part of the path that exists, so
// that the answer is the same before and after the rest is created.
func resolve(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	} else if !errors.Is(err, fs.ErrNotExist) {
		return path
	}
	dir, base := filepath.Split(path)
	dir = filepath.Clean(dir)
	if dir == path {
		return path
	}
	return filepath.Join(resolve(dir), base)
}

// Interface guards
var (
	_ caddy.Provisioner = (*Inbox)(nil)
	_ caddy.Validator   = (*Inbox)(nil)
	_ caddymodule.Inbox = (*Inbox)(nil)
	_ inbox.Surveyor    = (*Inbox)(nil)
)
