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
	// backupShare bounds the growth of the log while a copy is made, because it
	// cannot restart until then: to this fraction of the size limit.
	backupShare = 8

	// minBackupLog is the growth in bytes that is allowed in any case.
	minBackupLog = 8 << 20

	// backupStep is the number of pages written at a time.
	backupStep = 64
)

// errDiskFilled says why a backup was aborted.
var errDiskFilled = errors.New("the disk got full while it was made")

// Backup writes a copy of the file as it is at one moment. The pages are
// streamed, so that it needs no room on this disk except for the log, which
// grows meanwhile.
func (s *store) Backup(ctx context.Context, begin func(inbox.BackupInfo) (io.Writer, error)) (err error) {
	select {
	case <-s.closing:
		return s.errClosed()
	default:
	}
	if !s.copying.TryLock() { // Close locks it for good
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
	if err := m.read(c); err != nil { // the first read, which fixes the state to be copied
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
	w, err := begin(inbox.BackupInfo{Bytes: pages * pageSize, Events: m.total()})
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

// leaveWAL marks a database, in its first page, as one without a write-ahead
// log: the copy has none, and a log left over where it is restored must not be
// taken for its own. Opening it as an inbox enables the log again.
func leaveWAL(page []byte) {
	const writeVersion, readVersion = 18, 19
	page[writeVersion], page[readVersion] = 1, 1
}
