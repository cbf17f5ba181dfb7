package nats

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/clip"
)

// record is an event's message in the stream of states. Times are in µs since
// 1970.
type record struct {
	Event    uint64    `json:"event"`           // sequence of the event's message; if it differs, the record is of an earlier or later event with the same id
	Received int64     `json:"received"`        // when the event was received
	By       string    `json:"by,omitempty"`    // token of the lease, or the inbox, that wrote it
	Base     uint64    `json:"base,omitempty"`  // of a lease: sequence of the pending record that was leased, 0 if it was the event itself
	Early    bool      `json:"early,omitempty"` // of a lease: out of turn
	Attempts int       `json:"attempts,omitempty"`
	Due      int64     `json:"due,omitempty"`
	Settled  int64     `json:"settled,omitempty"`
	Log      []attempt `json:"log,omitempty"`     // the last attempts
	Replays  []replay  `json:"replays,omitempty"` // those that they followed, and the last one

	// Of the record of an event with several destinations as a whole: the destinations
	// that were added, and those to which its delivery is to become pending again, with
	// the number of the last record there at that time. Until there is a newer one, the
	// delivery counts as pending.
	Also  []string          `json:"also,omitempty"`
	Redo  map[string]uint64 `json:"redo,omitempty"`
	Moved bool              `json:"moved,omitempty"` // the event was put for the default destination alone
}

type replay struct {
	At    int64  `json:"at"`
	After int    `json:"after,omitempty"` // how many attempts were made before
	From  string `json:"from,omitempty"`  // the destination that the delivery was moved from
}

// again returns the record of a delivery that becomes pending again now, moved from a
// destination unless that is "".
func (r record) again(now int64, from string) record {
	last := replay{At: now, After: r.Attempts, From: from}
	replays := slices.DeleteFunc(slices.Clone(r.Replays), func(p replay) bool { return p.After == last.After })
	return record{Event: r.Event, Received: r.Received, Attempts: r.Attempts, Log: r.Log, Replays: append(replays, last)}
}

// replayed returns the last replay, zero if there was none.
func (r *record) replayed() inbox.Replay {
	if len(r.Replays) == 0 {
		return inbox.Replay{}
	}
	return r.Replays[len(r.Replays)-1].public()
}

// keep drops the earliest attempts beyond the number, and the replays before those but for
// the last one: the retry schedule begins there.
func (r *record) keep(attempts int) {
	r.Log = r.Log[max(0, len(r.Log)-attempts):]
	first := r.Attempts - len(r.Log)
	r.Replays = slices.Clone(r.Replays)
	last := len(r.Replays) - 1
	for i, p := range r.Replays {
		if p.After >= first || i == last {
			r.Replays = r.Replays[i:]
			return
		}
	}
}

func (p replay) public() inbox.Replay {
	return inbox.Replay{At: inbox.FromMicros(p.At), After: p.After, From: p.From}
}

type attempt struct {
	At       int64         `json:"at"`
	Duration time.Duration `json:"duration"`
	Status   int           `json:"status,omitempty"`
	Reason   string        `json:"reason,omitempty"`
}

func (a attempt) public() inbox.Attempt {
	return inbox.Attempt{At: inbox.FromMicros(a.At), Duration: a.Duration, Status: a.Status, Reason: a.Reason}
}

func attemptOf(a inbox.Attempt) attempt {
	return attempt{At: inbox.Micros(a.At), Duration: a.Duration, Status: a.Status, Reason: clip.Text(a.Reason, inbox.MaxReason)}
}

// history is the combined content of an event's records.
type history struct {
	at     place // where they are
	kind   kind
	rec    record // of a leased event: the record before the lease
	lease  record // of a leased event: the record of the lease
	last   uint64 // sequence of the last record of any kind
	base   uint64 // sequence of the pending record that is or was leased
	others []uint64

	// newer says that the event was removed and stored again. The replica from
	// which the event was read does not have the new one yet.
	newer bool
}

// historyOf combines the records of an event, which are oldest first.
func historyOf(e *stored, at place, messages []message) (h history, err error) {
	h.at = at
	var base record
	for _, m := range messages {
		if idOf(m.subject) != e.ID {
			continue
		}
		var r record
		if err := json.Unmarshal(m.data, &r); err != nil {
			return h, fmt.Errorf("record %d of event %s: %w", m.seq, e.ID, err)
		}
		h.others = append(h.others, m.seq)
		h.last, h.kind, h.lease = m.seq, none, record{}
		if r.Event > e.seq {
			h.newer = true
		}
		if r.Event != e.seq {
			continue // it belongs to an earlier event with this id
		}
		h.kind = at.kindIn(m.subject)
		switch h.kind {
		case leased:
			h.lease, h.rec = r, record{}
			if r.Base != 0 && r.Base == h.base {
				h.rec = base
			}
		case pending:
			h.rec, base, h.base = r, r, m.seq
		default:
			h.rec = r
		}
	}
	if h.kind == none {
		h.rec = record{}
	}
	if h.kind == leased && h.lease.Base == 0 || h.kind == none {
		h.base = 0
	}
	return h, nil
}

// delivery returns what is known of the delivery.
func (h *history) delivery(destination string, origin *imported, p *inbox.Policy, now time.Time) inbox.Delivery {
	rec, k := h.rec, h.kind
	if k == none && origin != nil {
		rec, k = origin.Record, origin.Kind
	}
	r := inbox.Progress{State: k.public(), Attempts: rec.Attempts, SettledAt: inbox.FromMicros(rec.Settled)}
	if k == pending {
		r.Due = p.Due(inbox.FromMicros(rec.Due), now)
	}
	attempts := make([]inbox.Attempt, len(rec.Log))
	for i, a := range rec.Log {
		attempts[i] = a.public()
	}
	if len(attempts) > 0 {
		r.Last = attempts[len(attempts)-1]
	}
	replays := slices.Grow([]inbox.Replay(nil), len(rec.Replays)) // nil for none
	for _, p := range rec.Replays {
		replays = append(replays, p.public())
	}
	return inbox.Delivery{Destination: destination, Progress: r, Log: attempts, Replays: replays}
}

// writeRecord stores a record if the event's last one in the place still has the
// sequence after.
func (s *store) writeRecord(ctx context.Context, at place, k kind, id string, r record, after uint64) (uint64, error) {
	data, err := encodeRecord(r, s.conn.MaxPayload()-overhead)
	if err != nil {
		return 0, err
	}
	return s.publish(ctx, &nats.Msg{Subject: at.state(k, id), Data: data}, after, at.statesOf(id))
}

// encodeRecord encodes a record, dropping the earliest attempts if the message
// would be too large: the event must be settled in any case.
func encodeRecord(r record, most int64) ([]byte, error) {
	for {
		data, err := json.Marshal(r)
		if err != nil || int64(len(data)) <= most || len(r.Log) == 0 {
			return data, err
		}
		r.keep(len(r.Log) - len(r.Log)/8 - 1)
	}
}
