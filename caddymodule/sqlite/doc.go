// Package sqlite is the Caddy module http.fotor_webhook.inbox.sqlite: an inbox in
// an SQLite file.
//
// An event goes through these files:
//
//   - put.go stores it as one row of events, in order of arrival, which never
//     changes. task.go keeps its task in order, bigtask.go that of a task with
//     very many events.
//   - writer.go commits it in one transaction with all other requests that are
//     waiting, so that many callers share one sync of the disk. tx.go is the
//     transaction, request.go what is asked for.
//   - lease.go finds it when it is due, and leases.go remembers that it is leased.
//   - settle.go stores the outcome of the attempt as a small row of delivery.
//   - retire.go removes it when it has been kept long enough.
//
// Read schema.go first, then put.go, writer.go and lease.go. index.go is the one
// index with random keys, from tasks to events: its newest entries are in memory,
// and index_table.go writes them in sorted batches. maintenance.go schedules such
// work between requests. checkpoint.go keeps the write-ahead log short. size.go
// and reserve.go are about full disks; lock.go, identity.go, overwrite.go and
// broken.go about files that others use, replace or damage.
package sqlite
