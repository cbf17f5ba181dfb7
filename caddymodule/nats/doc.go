// Package nats is the Caddy module http.fotor_webhook.inbox.nats: an inbox in
// streams of NATS JetStream, which any number of Caddys can share.
//
// Three streams hold it. Events are messages in order of arrival that never
// change, each on a subject of its own, so that an id is stored only once. The
// state of an event's delivery is a record, a small message in the stream of
// states. Each record is conditional on the one before: if two Caddys change the
// same event, one gets a conflict. The third stream is the quarantine. Leases are
// the outstanding deliveries of two durable consumers: what a Caddy does not
// acknowledge before it dies is handed out again.
//
// With several destinations an event is still one message, which names them in a header.
// Each destination has a consumer of the stream of events, and a stream for the records of
// its deliveries. One more stream has a record of each event as a whole, once all its
// deliveries have ended. Events that go to the default destination alone have neither:
// their records are in the stream of states, as in an inbox without destinations.
//
// An event goes through these files:
//
//   - put.go stores it behind the other events of its task, unless outcome.go finds that
//     one of them tells the same. event.go is its message, publish.go stores messages
//     conditionally.
//   - pull.go requests it from the consumers, and leaser.go keeps what the server
//     has handed out.
//   - lease.go leases it when it is its turn in its task, see task.go, and
//     lease_record.go writes that down for the other Caddys.
//   - pick.go leases the newest behind a backlog out of turn. newest.go keeps other
//     Caddys from leasing the same without a look, early.go keeps such leases.
//   - settle.go stores the outcome of the attempt as a record, see record.go, and
//     conclude.go what that means for an event with several destinations.
//   - edit.go replays it or gives it to another destination, purge.go removes it.
//   - retire.go removes it when it has been kept long enough.
//
// Tasks whose final events have not come are in a stream of their own. tracked.go is about
// it, mirror.go has what each Caddy knows of it, track.go and tasklease.go are what is asked
// for. askers.go counts the Caddys that ask Fotor for them.
//
// Read subjects.go and streams.go first, then destinations.go and queue.go, put.go,
// record.go and lease.go.
// directget.go and read.go read the streams. whole.go puts events and records together,
// list.go, find.go, stats.go and waiting.go show them. connect.go and link.go are about the
// connection, health.go and stream_check.go about streams that cannot store.
// ledger.go finds events that were removed by others, with orphans.go and
// remake.go. maintenance.go schedules what is done from time to time: tend.go sees to
// destinations that no config names any more, mend.go to replays that a Caddy did not
// live to complete, and forgotten.go to deliveries that nobody would hand out any more.
package nats
