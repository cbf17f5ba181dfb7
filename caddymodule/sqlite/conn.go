package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"

	sqlite "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// conn is a connection to the file, used by one goroutine at a time. It uses
// the driver without database/sql, which would cost as much as a small
// statement, and prepares each statement once.
type conn struct {
	driver.Conn
	stmts map[string]*stmt
}

// stmt is a prepared statement with buffers for its arguments and for one row.
type stmt struct {
	preparedStmt
	args []driver.NamedValue
	row  []driver.Value
}

type preparedStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

// Modes of opening the file, as parameters of SQLite's URI.
const (
	readWrite = "&mode=rwc"
	readOnly  = "&mode=ro"
)

// connect opens the file at an absolute path, creating it if necessary.
func connect(ctx context.Context, path string) (*conn, error) {
	return connectAs(ctx, path, readWrite)
}

func connectAs(ctx context.Context, path, mode string) (*conn, error) {
	connector, err := sqlite.NewConnector(dsn(path) + mode)
	if err != nil {
		return nil, err
	}
	c, err := connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, stmts: make(map[string]*stmt)}, nil
}

// dsn returns the URI of the file, whatever characters are in its name.
func dsn(path string) string {
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // a Windows drive
	}
	u := url.URL{Scheme: "file", Path: path, RawQuery: "_defensive=1&_dqs=0&_error_rc=1"}
	return u.String()
}

// prepare returns the prepared statement of the query.
func (c *conn) prepare(query string) (*stmt, error) {
	if s, ok := c.stmts[query]; ok {
		return s, nil
	}
	p, err := c.Prepare(query)
	if err != nil {
		return nil, err
	}
	ps, ok := p.(preparedStmt)
	if !ok {
		return nil, errors.Join(fmt.Errorf("the SQLite driver's statement is a %T without contexts", p), p.Close())
	}
	s := &stmt{preparedStmt: ps}
	c.stmts[query] = s
	return s, nil
}

// bind sets the statement's arguments.
func (s *stmt) bind(values []driver.Value) []driver.NamedValue {
	s.args = s.args[:0]
	for i, v := range values {
		s.args = append(s.args, driver.NamedValue{Ordinal: i + 1, Value: v})
	}
	return s.args
}

// exec runs a statement that returns no rows. It cannot be interrupted:
// statements are short, and half a transaction would be useless.
func (c *conn) exec(query string, values ...driver.Value) error {
	s, err := c.prepare(query)
	if err != nil {
		return err
	}
	_, err = s.ExecContext(context.Background(), s.bind(values))
	return err
}

// query calls each with every row. The row is valid until each returns.
//
// A limit that is an argument has to be written as +?: SQLite plans for the value of a plain
// one, and so would prepare the statement anew for each.
func (c *conn) query(query string, each func(row []driver.Value) error, values ...driver.Value) (err error) {
	s, err := c.prepare(query)
	if err != nil {
		return err
	}
	rows, err := s.QueryContext(context.Background(), s.bind(values))
	if err != nil {
		return err
	}
	defer func() {
		if cerr := rows.Close(); err == nil {
			err = cerr
		}
	}()
	if n := len(rows.Columns()); len(s.row) != n {
		s.row = make([]driver.Value, n)
	}
	for {
		switch err := rows.Next(s.row); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := each(s.row); err != nil {
			return err
		}
	}
}

// number returns the integer in the first column of the first row, 0 if there
// is no row or it is NULL.
func (c *conn) number(query string, values ...driver.Value) (n int64, err error) {
	err = c.query(query, func(row []driver.Value) error {
		n = integer(row[0])
		return nil
	}, values...)
	return n, err
}

// close closes the statements and the connection.
func (c *conn) close() error {
	var errs []error
	for _, s := range c.stmts {
		errs = append(errs, s.Close())
	}
	c.stmts = nil
	return errors.Join(append(errs, c.Close())...)
}

// integer, text and blob read a column; NULL reads as the zero value.
func integer(v driver.Value) int64 {
	n, _ := v.(int64)
	return n
}

func text(v driver.Value) string {
	s, _ := v.(string)
	return s
}

func blob(v driver.Value) []byte {
	b, _ := v.([]byte)
	return b
}

// code returns SQLite's extended result code of an error, 0 if it has none.
func code(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code()
	}
	return 0
}

// isFull reports whether the disk is full.
func isFull(err error) bool {
	return code(err)&0xff == sqlite3.SQLITE_FULL
}

// mayBeFull reports whether the disk may be full: with a quota, or when
// SQLite's shared memory file cannot grow, the error is an I/O error.
func mayBeFull(err error) bool {
	return isFull(err) || code(err)&0xff == sqlite3.SQLITE_IOERR
}

// isStorage reports whether the disk failed rather than the statement, so that
// any other statement would fail as well.
func isStorage(err error) bool {
	switch code(err) & 0xff {
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY,
		sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_BUSY,
		sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PERM, sqlite3.SQLITE_PROTOCOL:
		return true
	default:
		return false
	}
}
