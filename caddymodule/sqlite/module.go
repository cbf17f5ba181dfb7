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
// but that file, which it creates together with its directory when it first
// starts.
//
// Only one process at a time can use a file, and only one handler.
type Inbox struct {
	// The path of the file. SQLite keeps files with -wal and -shm appended to
	// that name beside it. The inbox adds one with .lock, which marks the file
	// as in use, and one with .reserve: up to 4 MiB that are freed when the
	// disk is full, so that deliveries can still be recorded. Global
	// placeholders are supported. Default: fotor_webhook/<name>.db in Caddy's
	// data directory.
	Path string `json:"path,omitempty"`

	// The size in bytes, of used pages and the write-ahead log, at which no
	// more events are taken: callers are answered 503 and nothing is lost. The
	// log counts as an eighth of it or 2 MiB, whichever is less, while it is
	// shorter. The quarantine takes a tenth of it at most. At least 1 MiB. Default: 10 GiB.
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

// Open opens the file, creating it if necessary, and proves with a durable
// write that it can store.
func (i *Inbox) Open(ctx context.Context, name string, p inbox.Policy, log *zap.Logger) (inbox.Inbox, error) {
	s, err := open(ctx, options{
		path:       i.file(name),
		configured: i.configured(name),
		maxSize:    i.MaxSize,
		policy:     p,
		log:        log,
		now:        time.Now,
		sleep:      time.Sleep,
		limits:     defaultLimits,
		schema:     schema,
	})
	if err != nil {
		return nil, fmt.Errorf("inbox sqlite: %w", err)
	}
	return s, nil
}

// Apply applies the size limit and the policy to an open inbox.
func (i *Inbox) Apply(in inbox.Inbox, p inbox.Policy) {
	if s, ok := in.(*store); ok {
		s.maxSize.Store(i.MaxSize)
	}
	in.SetPolicy(p)
}

// file returns the absolute path of the handler's file, with symbolic links
// resolved.
func (i *Inbox) file(name string) string { return resolve(i.configured(name)) }

// configured returns the absolute path as configured.
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
// that the result is the same before and after the rest is created.
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
