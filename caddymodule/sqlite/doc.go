// Package sqlite is the Caddy module http.fotor_webhook.inbox.sqlite: an inbox in
// an SQLite file.
//
// An event goes through these files:
//
//   - put.go stores it as one row of events, in order of arrival, which never
//     changes. route.go says where it goes, unless to the default destination alone.
//     outcome.go says whether another one of its task tells the same.
//     task.go keeps its task in order at each destination, bigtask.go and bigorder.go
//     that of a task with very many events.
//   - writer.go commits it in one transaction with all other requests that are
//     waiting, so that many callers share one sync of the disk; gather.go collects them.
//     tx.go is the transaction, request.go what is asked for.
//   - lease.go finds it when it is due at a destination: fresh.go if it was never
//     leased, newest.go out of turn. leases.go remembers that it is leased, yield.go lets
//     others of its task go first.
//   - settle.go stores the outcome of the attempt as a small row of that destination's
//     delivery.
//   - retire.go removes it when it has been kept long enough.
//
// Tasks whose final events have not come are in tracked.go; track.go and tasklease.go are
// what is asked for.
//
// Read schema.go first, then queue.go, put.go, writer.go and lease.go. Each destination
// has a queue: destination.go makes it with tables of its own, and leftbehind.go removes
// it when nothing is left of it. index.go is the one index with random keys, from tasks to events: its
// newest entries are in memory, and index_table.go writes them in sorted batches to the newest
// of its parts, see parts.go. merge.go and sweep.go keep those few, filters.go and bloom.go
// keep look-ups in them rare, and saved.go keeps what is in memory from one start to the next.
// find.go finds events in it by the beginning of their ids.
// maintenance.go schedules such work between requests. checkpoint.go keeps the write-ahead
// log short. size.go and reserve.go are about full disks; lock.go, identity.go,
// overwrite.go and broken.go about files that others use, replace or damage.
package sqlite
