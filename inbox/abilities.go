package inbox

import (
	"context"
	"io"
	"time"
)

// Breakable is implemented by an Inbox that can lose its storage for good. It
// then fails with ErrBroken until it is opened again, which a reload does.
type Breakable interface {
	// Broken returns why the inbox takes nothing any more, an error that is
	// ErrBroken; nil while the inbox works. Reading goes on as far as it can.
	Broken() error
}

// Prober is implemented by an Inbox that can prove that it stores.
type Prober interface {
	// Probe makes a durable write that leaves nothing behind, and looks whether there
	// is room for an event of 4 KiB. It returns nil if such an event, put at the same
	// moment, would have been stored; otherwise the error that Put would have returned.
	// It may take as long as Put.
	Probe(ctx context.Context) error
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

// Picker is implemented by a Queue that can lease out of turn.
type Picker interface {
	// Pick is Lease for the events that are wanted. A task's events stay in order.
	// It may be some seconds after a backlog began that the newest are leased.
	Pick(ctx context.Context, w Want) ([]*Lease, error)
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

// Finder is implemented by an Inbox that can find events by the beginning of their ids.
type Finder interface {
	// Find returns the events with the prefix, the newest first, at most limit of them.
	// If the prefix is Long, it may return those of the first task that it finds.
	Find(ctx context.Context, p Prefix, limit int) (Found, error)
}

// Found are events that were found by the beginning of their ids.
type Found struct {
	// Records are the events, without the logs of their deliveries.
	Records []*Record

	// More says that there are more than the limit.
	More bool

	// Since is when the oldest event arrived that was looked at; zero if all were, or if
	// the prefix is Long and some were found. Dead events were looked at in any case.
	Since time.Time
}
