package sqlite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
)

// The sizes of the header of the write-ahead log and of that of each frame, a page in it
// (SQLite's file format, 4.1).
const (
	logHeader   = 32
	frameHeader = 24
)

// tellsSize says that the size of a file in use can be asked for by its name. On Windows
// that may be an old one.
const tellsSize = runtime.GOOS != "windows"

// checkLog returns an error if the log was emptied or shortened by another program than
// SQLite: each frame that SQLite's index says is in it has to be there. SQLite would go on
// writing behind the gap, and copy the gap into the database. All frames are looked at, or
// only where a gap would be that was made since the last time.
//
// SQLite itself, also in another process, shortens the log only after it has taken the
// frames off the index, and only while it may write. So the two are compared in a
// transaction, the writer's own if it is in one.
//
// While a checkpoint is under way the log is not looked at: its connection, which reads
// the index, is in use. The log is looked at before each.
func (w *writer) checkLog(inTransaction, all bool) error {
	gap, err := w.findGap(all)
	if err != nil || gap == nil || inTransaction {
		return w.lostLog(gap, err)
	}
	switch err := w.conn.exec(`BEGIN IMMEDIATE`); {
	case isDamage(err): // it reads what the gap has swallowed
		return w.lostLog(gap, nil)
	case err != nil:
		return nil // another process writes: the next check tells
	}
	defer rollback(w.conn)
	return w.lostLog(w.findGap(all))
}

// lostLog marks the inbox as broken if the log has a gap, or cannot be read.
func (w *writer) lostLog(gap, err error) error {
	switch {
	case err != nil:
		w.noteDamage(err)
	case gap != nil:
		damaged.add(w.path) // a part of the gap may have been copied into it
		w.noteLoss(true, gap, "what was only in there is lost but for a backup, and the database, which has what came before, is checked when it is opened")
	}
	return w.Broken()
}

// findGap returns as gap what is missing in the log.
func (w *writer) findGap(all bool) (gap, err error) {
	if !tellsSize || w.checkpoint.state.Load() == logCopying {
		return nil, nil
	}
	frames, _, err := checkpoint(w.checkpoint.conn, `PRAGMA wal_checkpoint(NOOP)`)
	if err != nil || frames <= 0 {
		return nil, err
	}
	f, err := os.Open(w.path + walSuffix) //nolint:gosec // the operator names the file
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // the check of the files tells
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return w.findGapIn(f, frames, all)
}

func (w *writer) findGapIn(f *os.File, frames int64, all bool) (gap, err error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := frameHeader + w.size.page
	if want := logHeader + frames*size; info.Size() < want {
		return fmt.Errorf("%s was emptied or shortened: it has %d bytes; expected at least %d", f.Name(), info.Size(), want), nil
	}
	look := []int64{0, min(w.lookedAt, frames-1), frames - 1}
	w.lookedAt = frames - 1
	if all {
		look = look[:0]
		for n := range frames {
			look = append(look, n)
		}
	}
	for _, n := range look {
		var page [4]byte
		if _, err := f.ReadAt(page[:], logHeader+n*size); err != nil {
			return nil, err
		}
		if binary.BigEndian.Uint32(page[:]) == 0 { // no page has that number
			return fmt.Errorf("%s was emptied or shortened: it has a gap at byte %d", f.Name(), logHeader+n*size), nil
		}
	}
	return nil, nil
}
