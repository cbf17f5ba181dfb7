package sqlite

import "os"

// lockDatabase locks the database itself. flock does not touch the POSIX locks
// that SQLite has on the file.
func lockDatabase(f *os.File) error { return lockFile(f) }
