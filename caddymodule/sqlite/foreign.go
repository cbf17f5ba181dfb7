package sqlite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// In the header of an SQLite file, see https://www.sqlite.org/fileformat.html#the_database_header
const (
	headerMagic    = "SQLite format 3\x00"
	headerCookie   = 40 // offset of the number of changes of the schema, big endian
	headerApp      = 68 // offset of the application_id, big endian
	headerIntBytes = 4
)

// refuseForeign returns an error if the file at the path is there and belongs to another
// application, before anything about it is changed: its mode, a lock beside it. A file of
// which the header does not tell is left for identify. It is not looked at while this process
// has it open, see databases.
func refuseForeign(path string) error {
	databases.mu.Lock()
	defer databases.mu.Unlock()
	info, err := os.Stat(path) //nolint:gosec // the operator's path
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the file: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() == 0 || databases.find(info) != nil {
		return nil
	}
	header, err := readHeader(path)
	switch {
	case err != nil:
		return fmt.Errorf("the file: %w", err)
	case !strings.HasPrefix(string(header), headerMagic):
		log, err := os.Stat(path + walSuffix) //nolint:gosec // as above
		if err == nil && log.Size() > 0 {
			return nil // which may have the right beginning
		}
		return fmt.Errorf("%s is not an SQLite file", path)
	}
	number := func(offset int) uint32 { return binary.BigEndian.Uint32(header[offset : offset+headerIntBytes]) }
	app := int64(number(headerApp))
	if app == applicationID || app == 0 && number(headerCookie) == 0 {
		return nil
	}
	return fmt.Errorf("%s: %w", path, errOtherApplication(app))
}

// readHeader returns the beginning of a file, padded with zeros if that is shorter.
func readHeader(path string) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the operator's path
	if err != nil {
		return nil, err
	}
	header := make([]byte, headerSize)
	_, err = io.ReadFull(f, header)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = nil
	}
	return header, errors.Join(err, f.Close())
}

func errOtherApplication(app int64) error {
	return fmt.Errorf("it is an SQLite file of another application (application_id %#x; an inbox has %#x)", app, applicationID)
}
