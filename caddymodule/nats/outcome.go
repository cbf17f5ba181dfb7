package nats

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// The message of an event names those before it in its task that have outcomes. So the
// last one alone tells what a new event has to be compared with, however many events the
// task has, and the new one is stored only if that still is the last.

// encodeOutcome returns an outcome and its revision as they are in headers.
func encodeOutcome(t inbox.Told) string {
	return strconv.Itoa(t.Revision) + "-" + t.Outcome.String()
}

func decodeOutcome(text string) (t inbox.Told, err error) {
	revision, outcome, _ := strings.Cut(text, "-")
	if t.Revision, err = strconv.Atoi(revision); err != nil || t.Revision < 1 {
		return t, fmt.Errorf("revision %.20q; expected a number from 1", revision)
	}
	t.Outcome, err = inbox.ParseOutcomeKey(outcome)
	return t, err
}

// encodeTold returns events that have outcomes as they are in the header of a later event
// of their task, oldest first: of each the outcome, how it was learnt, and what follows the
// task's key in its id.
func encodeTold(told []inbox.Told) string {
	texts := make([]string, len(told))
	for i, t := range told {
		texts[i] = encodeOutcome(t) + "-" + t.Origin.String() + "-" + t.ID[keyLength:]
	}
	return strings.Join(texts, ",")
}

// decodeTold decodes the header of an event with this id.
func decodeTold(id, text string) (told []inbox.Told, err error) {
	for part := range strings.SplitSeq(text, ",") {
		fields := strings.Split(part, "-")
		if len(fields) != 4 {
			return nil, fmt.Errorf("what was told before is %.100q; expected 4 fields", part)
		}
		t, err := decodeOutcome(fields[0] + "-" + fields[1])
		if err == nil {
			t.Origin, err = decodeOrigin(fields[2])
		}
		if err == nil {
			t.ID = id[:keyLength] + fields[3]
			_, err = inbox.ParseID(t.ID)
		}
		if err != nil {
			return nil, err
		}
		told = append(told, t)
	}
	return told, nil
}

func decodeOrigin(text string) (inbox.Origin, error) {
	for _, o := range []inbox.Origin{inbox.FromCallback, inbox.FromAPI} {
		if text == o.String() {
			return o, nil
		}
	}
	return 0, fmt.Errorf("origin %.20q; expected callback or api", text)
}

// decodeOutcomes decodes what an event's headers say of outcomes.
func decodeOutcomes(e *stored, header nats.Header) (err error) {
	if text := header.Get(headerOrigin); text != "" {
		if e.Origin, err = decodeOrigin(text); err != nil {
			return err
		}
	}
	if text := header.Get(headerOutcome); text != "" {
		t, err := decodeOutcome(text)
		if err != nil {
			return err
		}
		e.Outcome, e.Revision = t.Outcome, t.Revision
	}
	if text := header.Get(headerTold); text != "" {
		e.told, err = decodeTold(e.ID, text)
	}
	return err
}

// toldUpTo returns the last events with outcomes up to e.
func (e *stored) toldUpTo() []inbox.Told {
	told := e.told
	if !e.Outcome.IsZero() {
		told = append(slices.Clip(told), e.Told())
	}
	return told[max(0, len(told)-inbox.MaxOutcomes):]
}

// appendTold appends the subjects of the events with which the event is compared, as the
// last one of its task names them: some may be gone.
func (p *pendingPut) appendTold(subjects []string, last *message) ([]string, error) {
	e, err := decodeEvent(*last)
	if err != nil {
		return nil, err
	}
	for _, t := range e.told { // the last one itself is among the subjects
		subjects = append(subjects, p.subjects.event(t.ID))
	}
	return subjects, nil
}

// present returns those whose events are among messages.
func (n subjects) present(told []inbox.Told, messages []message) (there []inbox.Told) {
	for _, t := range told {
		subject := n.event(t.ID)
		if slices.ContainsFunc(messages, func(m message) bool { return m.subject == subject }) {
			there = append(there, t)
		}
	}
	return there
}

// compare compares the event with those that the last look has found. It returns the id of
// the one of which it is a duplicate. An event from another inbox has its revision from
// there.
func (p *pendingPut) compare() (duplicateOf string, err error) {
	if !p.looked {
		return "", nil
	}
	duplicateOf, revision := p.event.CompareOutcome(p.told)
	if duplicateOf == "" && revision != p.event.Revision && !p.moved {
		return "", &inbox.RevisionError{Revision: revision}
	}
	return duplicateOf, nil
}
