package inbox

import (
	"context"
	"io"
)

// Breakable is implemented by an Inbox that can lose its storage for good. It
// then fails with ErrBroken until it is opened again, which a reload does.
type Breakable interface {
	// Broken returns why the inbox takes nothing any more, an error that is
	// ErrBroken; nil while the inbox works. Reading goes on as far as it can.
	Broken() error
}

// Backuper is implemented by an Inbox that can copy all that it holds,
// consistently, while it is in use.
type Backuper interface {
	// Backup writes the inbox as it was at one moment to the writer that begin
	// returns. It calls begin once, before it writes, with what the copy will
	// hold. It ends with ctx, and fails if the copy would cost the inbox too
	// much. While one backup runs, another is ErrBackupUnderWay.
	Backup(ctx context.Context, begin func(BackupInfo) (io.Writer, error)) error
}

// BackupInfo describes a copy before it is made.
type BackupInfo struct {
	Bytes  int64 // of the copy
	Events int64 // in all states
}

// Verifier is implemented by a Module that can check the copies made by Backup.
// It works without Provision.
type Verifier interface {
	// Verify reads the whole copy and returns the number of events in it, or
	// what is wrong with it.
	Verify(ctx context.Context, file string) (events int64, err error)
}
