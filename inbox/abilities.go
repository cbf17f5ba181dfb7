package inbox

import (
	"context"
	"io"
)

// Breakable is what an Inbox can be besides if it can lose its storage for good:
// then it is ErrBroken until it is opened anew, which a reload does.
type Breakable interface {
	// Broken returns why nothing is taken any more, an error that is ErrBroken;
	// nil while the inbox works. What can still be read can be read.
	Broken() error
}

// Want says which events a Lease is for.
type Want struct {
	// Max is the largest number of leases wanted, at least 1.
	Max int

	// Newest is how many of Max may be given to the newest events that were never
	// leased, out of turn: only then are there more than Max-Newest, and the
	// others come in the usual order.
	Newest int

	// Untried restricts the leases to events that were never tried.
	Untried bool
}

// Picker is what an Inbox can be besides if it can lease out of turn.
type Picker interface {
	// Pick is Lease for the events that are wanted. A task's events stay in order.
	Pick(ctx context.Context, w Want) ([]*Lease, error)
}

// Backuper is what an Inbox can do besides if it can copy all that it holds,
// consistently, while it is in use.
type Backuper interface {
	// Backup writes the inbox as it stands at one moment to what begin returns,
	// which is told beforehand what will come. It ends with ctx, and with an
	// error if the copy would take too much from what the inbox is for. A second
	// one at a time is ErrBackupUnderWay.
	Backup(ctx context.Context, begin func(BackupInfo) (io.Writer, error)) error
}

// BackupInfo says what a copy will hold.
type BackupInfo struct {
	Bytes  int64 // of the copy
	Events int64 // in all states
}

// Verifier is what a Module can do besides if it can check the copies that
// Backup has made. It needs no Provision.
type Verifier interface {
	// Verify reads the whole copy and returns the number of events in it, or
	// what is wrong with it.
	Verify(ctx context.Context, file string) (events int64, err error)
}
