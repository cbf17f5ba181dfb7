package nats

import (
	"strconv"
	"strings"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// kind is the state of an event's delivery in its record. It is a part of the
// record's subject, so that records of one kind can be counted and read
// separately.
type kind string

const (
	none       kind = "" // no record: the event is pending and was never settled
	pending    kind = "pending"
	leased     kind = "leased"
	delivered  kind = "delivered"
	superseded kind = "superseded"
	dead       kind = "dead"
	gone       kind = "gone"   // the event is being removed because it is too old
	purged     kind = "purged" // the event is being removed by an operator
)

func (k kind) ended() bool {
	return k == delivered || k == superseded || k == dead || k.beingRemoved()
}

// beingRemoved reports whether the event is being removed.
func (k kind) beingRemoved() bool { return k == gone || k == purged }

// public returns the inbox.State.
func (k kind) public() inbox.State {
	switch k {
	case delivered:
		return inbox.Delivered
	case superseded:
		return inbox.Superseded
	case dead:
		return inbox.Dead
	default:
		return inbox.Pending
	}
}

// kindOf returns the kind of an event in this state.
func kindOf(s inbox.State) kind {
	switch s {
	case inbox.Delivered:
		return delivered
	case inbox.Superseded:
		return superseded
	case inbox.Dead:
		return dead
	default:
		return pending
	}
}

// keyLength is the length of the task's key with which an id begins.
const keyLength = 16

// subjects are the names of the streams, and the subjects in them.
type subjects struct{ stream string }

func (n subjects) states() string     { return n.stream + "_STATE" }
func (n subjects) quarantine() string { return n.stream + "_QUARANTINE" }

func (n subjects) allEvents() string { return n.stream + ".event.>" }
func (n subjects) allStates() string { return n.stream + ".state.>" }
func (n subjects) allMeta() string   { return n.stream + ".meta.>" }

// oldSuspects is the subject of all quarantined callbacks stored by a release
// that did not merge equal ones.
func (n subjects) oldSuspects() string { return n.stream + ".quarantine" }

func (n subjects) suspects() string { return n.stream + ".quarantine.*.*" }

// suspect is the subject of a quarantined callback. To find it by one of its
// parts alone, the other one is "*".
func (n subjects) suspect(body, id string) string {
	return n.stream + ".quarantine." + body + "." + id
}

// event is the subject of an event.
func (n subjects) event(id string) string {
	return n.stream + ".event." + id[:keyLength] + "." + id
}

// noEvent is a subject that no event has.
func (n subjects) noEvent() string { return n.stream + ".event.none.none" }

// task matches the events of a task.
func (n subjects) task(id string) string {
	return n.stream + ".event." + id[:keyLength] + ".*"
}

// state is the subject of an event's record.
func (n subjects) state(k kind, id string) string {
	return n.stream + ".state." + string(k) + "." + id[:keyLength] + "." + id
}

// statesOf matches an event's records of every kind.
func (n subjects) statesOf(id string) string { return n.state("*", id) }

// taskStates matches the records of a task's events.
func (n subjects) taskStates(id string) string {
	return n.stream + ".state.*." + id[:keyLength] + ".*"
}

// ofKind matches all records of a kind.
func (n subjects) ofKind(k kind) string {
	return n.stream + ".state." + string(k) + ".>"
}

func (n subjects) meta(name string) string { return n.stream + ".meta." + name }

// erased is the subject of the mark that an event was purged. seq is the
// sequence of the record of kind purged.
func (n subjects) erased(seq uint64) string {
	return n.meta(metaErased) + "." + strconv.FormatUint(seq, 10)
}

func (n subjects) allErased() string { return n.meta(metaErased) + ".>" }

// idOf returns the id at the end of a subject.
func idOf(subject string) string {
	return subject[strings.LastIndexByte(subject, '.')+1:]
}

// kindIn returns the kind in the subject of a record.
func (n subjects) kindIn(subject string) kind {
	k, _, _ := strings.Cut(strings.TrimPrefix(subject, n.stream+".state."), ".")
	return kind(k)
}
