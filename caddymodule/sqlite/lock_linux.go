package sqlite

import "os"

// lockDatabase locks the database itself. flock does not interfere with
// SQLite's POSIX locks on the file.
func lockDatabase(f *os.File) error { return lockFile(f) }
