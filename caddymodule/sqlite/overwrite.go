package sqlite

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// overwriteCheck notices that the database was overwritten in place, by a cp for
// instance: the file is the same then, and SQLite would mix what it remembers
// with what is there now.
//
// The database only changes when the log is copied into it. If it changes at
// another time, that was another program, which may copy the log too, or even
// have committed something; otherwise what it wrote is not this inbox.
type overwriteCheck struct {
	file     *os.File
	metaPage int64 // its number, from 1

	size    int64
	changed time.Time
	header  []byte
	meta    []byte // its page
	version int64  // PRAGMA data_version: it counts the commits of others

	// committed holds the states that may be in the file after others have copied
	// the log: those of meta that were committed since all of it was copied.
	committed map[meta]struct{}
}

// maxCommitted bounds since. With more, which of them is in the file is not looked
// at.
const maxCommitted = 4096

// headerSize is that of the database's header, at its beginning.
const headerSize = 100

// start reads what is in the file now. Nothing may be writing to it.
func (c *overwriteCheck) start(w *writer, file *os.File) (err error) {
	c.file, c.committed = file, make(map[meta]struct{})
	if c.metaPage, err = w.conn.number(`SELECT rootpage FROM sqlite_schema WHERE name = 'meta'`); err != nil {
		return err
	}
	frames, copied, err := checkpoint(w.conn, `PRAGMA wal_checkpoint(PASSIVE)`)
	if err != nil {
		return err
	}
	return c.refresh(w, frames == copied)
}

// refresh reads what is in the file after the log was copied, whole or in part.
func (c *overwriteCheck) refresh(w *writer, whole bool) (err error) {
	if c.file == nil {
		return nil
	}
	if whole {
		clear(c.committed)
	}
	c.add(w.meta)
	if c.version, err = w.conn.number(`PRAGMA data_version`); err != nil {
		return err
	}
	info, err := c.file.Stat()
	if err != nil {
		return err
	}
	c.size, c.changed = info.Size(), info.ModTime()
	c.header, c.meta, err = c.read(w.size.page)
	return err
}

// add notes a state that was committed.
func (c *overwriteCheck) add(m meta) {
	if c.file != nil && len(c.committed) <= maxCommitted {
		c.committed[m] = struct{}{}
	}
}

// read returns the header and the page of meta as they are in the file.
func (c *overwriteCheck) read(pageSize int64) (header, page []byte, err error) {
	header, page = make([]byte, headerSize), make([]byte, pageSize)
	for _, part := range []struct {
		b  []byte
		at int64
	}{{header, 0}, {page, (c.metaPage - 1) * pageSize}} {
		if _, err := c.file.ReadAt(part.b, part.at); err != nil && !errors.Is(err, io.EOF) {
			return nil, nil, fmt.Errorf("reading the database: %w", err)
		}
	}
	return header, page, nil
}

// check reports whether somebody else has overwritten the file.
func (c *overwriteCheck) check(w *writer) error {
	if c.file == nil || w.checkpoint.state.Load() != logGrows {
		return nil
	}
	info, err := c.file.Stat()
	if err != nil {
		return fmt.Errorf("%s cannot be looked at: %w", w.path, err)
	}
	if info.Size() == c.size && info.ModTime().Equal(c.changed) {
		return nil
	}
	// Another program that commits changes what would be expected, so it is not
	// held against it.
	version, err := w.conn.number(`PRAGMA data_version`)
	if err != nil {
		return err
	}
	if version != c.version {
		return c.refresh(w, false)
	}
	header, page, err := c.read(w.size.page)
	switch {
	case err != nil:
		return err
	case info.Size() < c.size, !sameHeader(header, c.header), !bytes.Equal(page, c.meta) && !c.wasCommitted(page):
		return fmt.Errorf("%s was overwritten: what is in it is not what was stored there", w.path)
	}
	c.size, c.changed, c.meta = info.Size(), info.ModTime(), page
	return nil
}

// wasCommitted reports whether the page holds a state that was committed.
func (c *overwriteCheck) wasCommitted(page []byte) bool {
	m, ok := parseMeta(page)
	_, known := c.committed[m]
	return ok && (known || len(c.committed) > maxCommitted)
}

// sameHeader compares what copying the log does not change: all but the change
// counters, the size and the list of free pages.
func sameHeader(a, b []byte) bool {
	for _, part := range [][2]int{{0, 24}, {40, 92}} {
		if !bytes.Equal(a[part[0]:part[1]], b[part[0]:part[1]]) {
			return false
		}
	}
	return true
}

// parseMeta reads the only row of meta from its page: a leaf of a table's
// b-tree with one cell (SQLite's file format, 1.6 and 2.1).
func parseMeta(page []byte) (m meta, ok bool) {
	const leaf, pointers = 13, 8
	if len(page) < pointers+2 || page[0] != leaf || binary.BigEndian.Uint16(page[3:]) != 1 {
		return m, false
	}
	r := record{rest: page[min(len(page), int(binary.BigEndian.Uint16(page[pointers:]))):]}
	r.varint() // the size of the row
	r.varint() // its number, which is the column id
	types := record{rest: r.rest}
	size := types.varint()
	if size > uint64(len(r.rest)) {
		return m, false
	}
	types.rest = types.rest[:max(0, len(types.rest)-len(r.rest)+int(size))] //nolint:gosec // less than a page
	r.rest = r.rest[size:]
	types.varint() // the column id
	for _, field := range m.fields() {
		*field = r.integer(types.varint())
	}
	return m, !r.short && !types.short
}

// record reads SQLite's numbers one after the other.
type record struct {
	rest  []byte
	short bool // there was less than was to be read
}

func (r *record) varint() (n uint64) {
	for i, b := range r.rest {
		if i == 8 {
			r.rest = r.rest[9:]
			return n<<8 | uint64(b)
		}
		n = n<<7 | uint64(b&0x7f)
		if b < 0x80 {
			r.rest = r.rest[i+1:]
			return n
		}
	}
	r.short = true
	return 0
}

// integer reads a value of one of the types of integers.
func (r *record) integer(serial uint64) (n int64) {
	size := 0
	switch serial {
	case 1, 2, 3, 4:
		size = int(serial) //nolint:gosec // as the case says
	case 5:
		size = 6
	case 6:
		size = 8
	case 9:
		n = 1
	case 0, 8: // NULL and 0
	default:
		r.short = true
	}
	if len(r.rest) < size {
		r.short = true
		return 0
	}
	for i, b := range r.rest[:size] {
		if i == 0 {
			n = int64(int8(b)) //nolint:gosec // its sign
			continue
		}
		n = n<<8 | int64(b)
	}
	r.rest = r.rest[size:]
	return n
}
