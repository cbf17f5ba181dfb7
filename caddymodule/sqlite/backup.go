package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	// backupShare is the part of the limit of the whole file by which the log
	// may grow while a copy is made, since it cannot begin anew until then.
	backupShare = 8

	// minBackupLog is what it may grow by in any case, in bytes.
	minBackupLog = 8 << 20

	// backupStep is the number of pages that are written at a time.
	backupStep = 64
)

// errDiskFilled says why a backup was broken off.
var errDiskFilled = errors.New("the disk got full while it was made")

// Backup writes a copy of the file as it stands. The pages go to the writer one
// after the other, so that it takes no room on this disk but for the log, which
// grows meanwhile by what is stored.
func (s *store) Backup(ctx context.Context, begin func(inbox.BackupInfo) (io.Writer, error)) (err error) {
	select {
	case <-s.closing:
		return s.errClosed()
	default:
	}
	if !s.copying.TryLock() { // Close takes it too, and keeps it
		return inbox.ErrBackupUnderWay
	}
	defer s.copying.Unlock()
	defer func() {
		s.noteDamage(err)
		if err != nil {
			err = fmt.Errorf("copying %s: %w", s.path, err)
		}
	}()
	c := s.copier
	if err := c.exec(`BEGIN`); err != nil {
		return err
	}
	defer rollback(c)
	var m meta
	if err := m.read(c); err != nil { // from here on it reads what is there now
		return err
	}
	pageSize, err := c.number(`PRAGMA page_size`)
	if err != nil {
		return err
	}
	pages, err := c.number(`PRAGMA page_count`)
	if err != nil {
		return err
	}
	w, err := begin(inbox.BackupInfo{Bytes: pages * pageSize, Events: m.events()})
	if err != nil {
		return err
	}
	return s.copyPages(ctx, w, int(pageSize))
}

func (s *store) copyPages(ctx context.Context, w io.Writer, pageSize int) error {
	mayGrow := max(minBackupLog, s.maxSize.Load()/backupShare)
	logBefore := s.view.Load().log
	buf := make([]byte, 0, backupStep*pageSize)
	first := true
	err := s.copier.query(`SELECT data FROM sqlite_dbpage`, func(row []driver.Value) error {
		page := blob(row[0])
		if len(page) != pageSize {
			return fmt.Errorf("a page has %d bytes; expected %d", len(page), pageSize)
		}
		buf = append(buf, page...)
		if first {
			leaveWAL(buf)
			first = false
		}
		if len(buf) < cap(buf) {
			return nil
		}
		if _, err := w.Write(buf); err != nil {
			return err
		}
		buf = buf[:0]
		select {
		case <-s.closing:
			return s.errClosed()
		case <-ctx.Done():
			return ctx.Err()
		default:
		}
		switch grown := s.view.Load().log - logBefore; {
		case s.diskFull.Load():
			return errDiskFilled
		case grown > mayGrow:
			return fmt.Errorf("%d bytes were stored while it was made, and more may not wait for it: try again when fewer callbacks arrive, or copy to a faster disk", grown)
		}
		return nil
	})
	if err == nil {
		_, err = w.Write(buf)
	}
	return err
}

// leaveWAL makes a database's first page say that it has no write-ahead log:
// none comes with the copy, and one that is left beside where it is restored
// must not be taken for its own. Opening it as an inbox turns it on again.
func leaveWAL(page []byte) {
	const writeVersion, readVersion = 18, 19
	page[writeVersion], page[readVersion] = 1, 1
}
