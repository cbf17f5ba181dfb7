package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	// maxSurveyed is the number of files that a survey inspects.
	maxSurveyed = 1000

	keyPrefix = "sqlite:"
)

// defaultDir is the directory of files without a configured path.
func defaultDir() string { return filepath.Join(caddy.AppDataDir(), "fotor_webhook") }

// Survey inspects the files in the default directory and those of the keys.
func (i *Inbox) Survey(ctx context.Context, keys []string) (found []inbox.Unattended, more bool, err error) {
	paths, more, err := filesIn(defaultDir())
	for _, key := range keys {
		if path, ok := strings.CutPrefix(key, keyPrefix); ok {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	for _, path := range slices.Compact(paths) {
		if ctx.Err() != nil {
			return found, true, err
		}
		u, lookErr := inspectFile(ctx, path)
		if errors.Is(lookErr, errNoInbox) || errors.Is(lookErr, inbox.ErrInUse) {
			continue
		}
		u.Key, u.Err = keyPrefix+path, lookErr
		if lookErr != nil || u.Pending+u.Dead+u.Quarantined+u.Tracked > 0 {
			found = append(found, u)
		}
	}
	return found, more, err
}

// filesIn returns the paths of the files in a directory that may be inboxes.
func filesIn(dir string) (paths []string, more bool, err error) {
	folder, err := os.Open(dir) //nolint:gosec // the path is Caddy's own
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("inbox sqlite: looking for files: %w", err)
	}
	defer folder.Close()
	for !more {
		entries, err := folder.ReadDir(maxSurveyed)
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".db") {
				paths = append(paths, resolve(filepath.Join(dir, e.Name())))
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return paths, false, fmt.Errorf("inbox sqlite: looking for files: %w", err)
		}
		more = len(paths) > maxSurveyed
	}
	return paths[:min(len(paths), maxSurveyed)], more, nil
}

// errNoInbox says that a file does not belong to the gateway.
var errNoInbox = errors.New("not an inbox")

// inspectFile reads the counters of a file that nobody has open. Meanwhile
// nobody in this process can open it, which takes milliseconds.
func inspectFile(ctx context.Context, path string) (u inbox.Unattended, err error) {
	databases.mu.Lock()
	defer databases.mu.Unlock()
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return u, errNoInbox // opening a pipe, for example, would block
	}
	if databases.find(info) != nil || heldElsewhere(path+lockSuffix) {
		return u, inbox.ErrInUse
	}
	// A file that was closed properly has no log and is read as it is. With a
	// log SQLite has to read that too, and may create a -shm file for it.
	mode := readOnly + "&immutable=1"
	if log, err := os.Stat(path + walSuffix); err == nil && log.Size() > 0 {
		mode = readOnly
	}
	c, err := connectAs(ctx, path, mode)
	if err != nil {
		return u, fileError(path, err)
	}
	defer func() { err = cmp.Or(err, c.close()) }()
	var m meta
	err = setUp(c, []string{surveyBusyTimeout})
	version := 0
	if err == nil {
		version, err = requireInbox(c)
	}
	if err == nil {
		err = m.readVersion(c, version)
	}
	if err == nil {
		u.Tracked, err = countTracked(c)
	}
	if err != nil {
		if errors.Is(err, errNoInbox) {
			return u, err
		}
		return u, fileError(path, err)
	}
	u.Pending, u.Dead, u.Quarantined = m.events[inbox.Pending], m.events[inbox.Dead], m.quarantined
	return u, nil
}

// countTracked returns the number of tracked tasks in a file of any version.
func countTracked(c *conn) (int64, error) {
	has, err := c.number(`SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'tracked'`)
	if err != nil || has == 0 {
		return 0, err
	}
	return c.number(`SELECT count(*) FROM tracked`)
}

const surveyBusyTimeout = `PRAGMA busy_timeout = 100`

// requireInbox returns the version of the file's schema, or an error unless the file is
// an inbox that this release supports.
func requireInbox(c *conn) (version int, err error) {
	app, err := c.number(`PRAGMA application_id`)
	if err != nil {
		return 0, err
	}
	if app != applicationID {
		return 0, errNoInbox
	}
	v, err := c.number(`PRAGMA user_version`)
	if err == nil && int(v) > len(schema) {
		err = fmt.Errorf("its schema has version %d, made by a newer release of this module", v)
	}
	return int(v), err
}
