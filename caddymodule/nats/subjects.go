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
	purged     kind = "purged" // the event, or this delivery of it, was removed by an operator

	// Of an event with several destinations as a whole.
	reopened kind = "open"    // it had ended, and a delivery is pending again
	skipped  kind = "skipped" // it goes to no destination

	// moved says that the deliveries of an event that went to the default destination
	// alone are where those of an event with several are.
	moved kind = "moved"
)

func (k kind) ended() bool {
	return k == delivered || k == superseded || k == dead || k == skipped || k.beingRemoved()
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
	case skipped:
		return inbox.Skipped
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
	case inbox.Skipped:
		return skipped
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

func (n subjects) meta(name string) string { return n.stream + ".meta." + name }

// idOf returns the id at the end of a subject.
func idOf(subject string) string {
	return subject[strings.LastIndexByte(subject, '.')+1:]
}

// registration is the subject of what all Caddys know of a destination.
func (n subjects) registration(destination string) string {
	return n.meta(metaDestination) + "." + destination
}

// metaOf is the subject of what all Caddys share about a destination.
func (n subjects) metaOf(name, destination string) string {
	if destination == inbox.DefaultDestination {
		return n.meta(name)
	}
	return n.meta(name) + "." + destination
}

// place is where records are: a stream, and what their subjects in it begin with.
type place struct {
	stream, prefix string
	marks          string // what the subjects of marks of purged events begin with; "" if there are none
}

// home has the records of events that go to the default destination alone. Such a
// record is that of the delivery and of the event.
func (n subjects) home() place {
	return place{n.states(), n.stream + ".state", n.meta(metaErased)}
}

// all has the records of events with several destinations, each as a whole.
func (n subjects) all() place {
	return place{n.stream + "_ALL", n.stream + ".all", n.stream + ".all.erased"}
}

// to has the records of the deliveries to a destination, without those in home.
func (n subjects) to(destination string) place {
	return place{n.stream + "_TO_" + destination, n.stream + ".to." + destination, ""}
}

func (p place) everything() string { return p.prefix + ".>" }

// state is the subject of an event's record.
func (p place) state(k kind, id string) string {
	return p.prefix + "." + string(k) + "." + id[:keyLength] + "." + id
}

// statesOf matches an event's records of every kind.
func (p place) statesOf(id string) string { return p.state("*", id) }

// taskStates matches the records of a task's events.
func (p place) taskStates(id string) string { return p.prefix + ".*." + id[:keyLength] + ".*" }

// ofKind matches all records of a kind.
func (p place) ofKind(k kind) string { return p.prefix + "." + string(k) + ".>" }

// kindIn returns the kind in the subject of a record.
func (p place) kindIn(subject string) kind {
	k, _, _ := strings.Cut(strings.TrimPrefix(subject, p.prefix+"."), ".")
	return kind(k)
}

// erased is the subject of the mark that an event was purged. seq is the
// sequence of the record of kind purged.
func (p place) erased(seq uint64) string { return p.marks + "." + strconv.FormatUint(seq, 10) }

func (p place) allErased() string { return p.marks + ".>" }
