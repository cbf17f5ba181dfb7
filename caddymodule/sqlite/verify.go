package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"
)

// checkOnOpenTimeout bounds the check of a file when it is opened.
const checkOnOpenTimeout = 45 * time.Second

// checkOnOpen checks a file before it is used, if it is small enough for the
// check to take no time, or was found damaged before.
func checkOnOpen(ctx context.Context, c *conn, path string, upTo int64) error {
	pages, err := c.number(`PRAGMA page_count`)
	if err != nil {
		return err
	}
	size, err := c.number(`PRAGMA page_size`)
	if err != nil {
		return err
	}
	suspect := damaged.has(path)
	if pages*size > upTo && !suspect {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, checkOnOpenTimeout)
	defer cancel()
	switch err := c.checkIntegrity(ctx, `PRAGMA quick_check(1)`); {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("it was found damaged, and to check it again takes longer than %s: check it with sqlite3 and 'PRAGMA integrity_check', then restart Caddy", checkOnOpenTimeout)
	case err != nil:
		return err
	}
	damaged.remove(path)
	return nil
}

// errDamaged precedes what SQLite finds wrong with a file.
var errDamaged = errors.New("it is damaged: restore it from a backup, or move it away to begin with an empty inbox")

// checkIntegrity runs one of SQLite's checks of the file.
func (c *conn) checkIntegrity(ctx context.Context, pragma string) error {
	s, err := c.prepare(pragma)
	if err != nil {
		return err
	}
	rows, err := s.QueryContext(ctx, nil)
	if err != nil {
		return err
	}
	row := make([]driver.Value, 1)
	switch err = rows.Next(row); {
	case errors.Is(err, io.EOF):
		err = errors.New("the check gave no answer")
	case err == nil && text(row[0]) != "ok":
		err = fmt.Errorf("%w: %.300s", errDamaged, text(row[0]))
	}
	return errors.Join(err, rows.Close())
}

// Verify checks a copy made by Backup and counts its events.
func (*Inbox) Verify(ctx context.Context, file string) (events int64, err error) {
	file, err = filepath.Abs(file)
	if err != nil {
		return 0, err
	}
	c, err := connectAs(ctx, file, readOnly)
	if err != nil {
		return 0, fileError(file, err)
	}
	defer func() {
		if cerr := c.close(); err == nil && cerr != nil {
			err = cerr
		}
	}()
	version, err := identify(c)
	if err == nil && version == 0 {
		err = errors.New("it is empty")
	}
	if err == nil {
		err = c.checkIntegrity(ctx, `PRAGMA integrity_check(1)`)
	}
	if err != nil {
		return 0, fileError(file, err)
	}
	var m meta
	if err := m.readVersion(c, version); err != nil {
		return 0, fileError(file, err)
	}
	events, err = c.number(`SELECT count(*) FROM events`)
	if err == nil && events != m.total() {
		err = fmt.Errorf("it has %d events; expected %d", events, m.total())
	}
	if err != nil {
		return 0, fileError(file, err)
	}
	return events, nil
}
