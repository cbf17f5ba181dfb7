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

// overwriteCheck detects that the database was overwritten in place, by cp for
// instance. It is still the same file then, and SQLite would mix cached pages
// with the new content.
//
// The database changes only when the log is copied into it. If it changes at
// another time, another program did it. That program may have copied the log,
// or even committed something. Otherwise what it wrote is not this inbox.
type overwriteCheck struct {
	file     *os.File
	metaPage int64 // its number, from 1

	size    int64
	changed time.Time
	header  []byte
	meta    []byte // the page of meta
	version int64  // PRAGMA data_version, which counts the commits of other connections

	// committed has the states of meta that may be in the file after another
	// program copied the log: those committed since the log was last copied as
	// a whole.
	committed map[meta]struct{}
}

// maxCommitted bounds committed. Beyond it any state of meta is accepted.
const maxCommitted = 4096

// headerSize is the size of the database header.
const headerSize = 100

// start reads the current content of the file. Nothing may write to it.
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

// refresh reads the content of the file after the log was copied, as a whole or
// in part.
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

// add records a committed state.
func (c *overwriteCheck) add(m meta) {
	if c.file != nil && len(c.committed) <= maxCommitted {
		c.committed[m] = struct{}{}
	}
}

// read returns the header and the page of meta in the file.
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

// check returns an error if another program has overwritten the file.
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
	// After a commit of another program the content cannot be predicted, so it
	// is accepted.
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

// wasCommitted reports whether the page has a state of meta that was committed.
func (c *overwriteCheck) wasCommitted(page []byte) bool {
	m, ok := parseMeta(page)
	_, known := c.committed[m]
	return ok && (known || len(c.committed) > maxCommitted)
}

// sameHeader compares the parts of the header that copying the log does not
// change: all but the change counters, the size and the list of free pages.
func sameHeader(a, b []byte) bool {
	for _, part := range [][2]int{{0, 24}, {40, 92}} {
		if !bytes.Equal(a[part[0]:part[1]], b[part[0]:part[1]]) {
			return false
		}
	}
	return true
}

// parseMeta decodes the only row of meta from its page: a leaf of a table
// b-tree with one cell (SQLite's file format, 1.6 and 2.1).
func parseMeta(page []byte) (m meta, ok bool) {
	const leaf, pointers = 13, 8
	if len(page) < pointers+2 || page[0] != leaf || binary.BigEndian.Uint16(page[3:]) != 1 {
		return m, false
	}
	r := record{rest: page[min(len(page), int(binary.BigEndian.Uint16(page[pointers:]))):]}
	r.varint() // the size of the row
	r.varint() // the row's number, which is the column id
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

// record decodes SQLite's numbers one after the other.
type record struct {
	rest  []byte
	short bool // the data ended early
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

// integer decodes a value of one of the integer types.
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
