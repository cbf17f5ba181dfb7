package nats

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// requirement is a value that a setting of a stream must have, or events would
// be lost.
type requirement struct {
	ok         bool
	what       string
	have, must any
	edit       string // the argument of "nats stream edit" that restores it; "" if none can
}

// checkStream returns why an existing stream cannot be used, and how to repair
// it. While the inbox runs, it also checks the limits that are set when the
// inbox is opened.
func checkStream(have, want jetstream.StreamConfig, runs bool) error {
	if have.Metadata[layoutKey] != layout {
		return fmt.Errorf("stream %s is there and was not made by the gateway; it is left as it is: choose another name with the option stream, or remove it", want.Name)
	}
	if other := otherInbox(have, want); other != "" {
		return fmt.Errorf("%w: stream %s cannot be used: it is that of another inbox, with the option stream %s, as its subjects are %v: give one of the two inboxes another name with that option, and change nothing about the stream",
			inbox.ErrBroken, want.Name, other, have.Subjects)
	}
	slices.Sort(have.Subjects)
	slices.Sort(want.Subjects)
	demands := []requirement{
		{slices.Equal(have.Subjects, want.Subjects), "subjects", have.Subjects, want.Subjects, "--subjects=" + strings.Join(want.Subjects, ",")},
		{have.Storage == want.Storage, "storage", have.Storage, want.Storage, ""},
		{have.Retention == want.Retention, "retention", have.Retention, want.Retention, ""},
		{have.Discard == want.Discard, "discard", have.Discard, want.Discard, "--discard=" + strings.ToLower(strings.TrimPrefix(want.Discard.String(), "Discard"))},
		{have.MaxMsgsPerSubject == want.MaxMsgsPerSubject, "max_msgs_per_subject", have.MaxMsgsPerSubject, want.MaxMsgsPerSubject, fmt.Sprintf("--max-msgs-per-subject=%d", want.MaxMsgsPerSubject)},
		{have.MaxAge == 0, "max_age", have.MaxAge, "0", "--max-age=0s"},
		{have.MaxMsgSize <= 0, "max_msg_size", have.MaxMsgSize, -1, "--max-msg-size=-1"},
		{have.AllowDirect, "allow_direct", have.AllowDirect, true, "--allow-direct"},
		{have.AllowRollup || !want.AllowRollup, "allow_rollup_hdrs", have.AllowRollup, true, "--allow-rollup"},
		{have.AllowMsgTTL || !want.AllowMsgTTL, "allow_msg_ttl", have.AllowMsgTTL, true, "--allow-msg-ttl"},
		{!have.NoAck, "no_ack", have.NoAck, false, "--ack"},
		{have.PersistMode == jetstream.DefaultPersistMode, "persist_mode", have.PersistMode, jetstream.DefaultPersistMode, ""},
		{!have.Sealed, "sealed", have.Sealed, false, ""},
		{!have.DenyDelete, "deny_delete", have.DenyDelete, false, ""},
		{!have.DenyPurge, "deny_purge", have.DenyPurge, false, ""},
		{have.Mirror == nil, "mirror", "set", "none", ""},
		{len(have.Sources) == 0, "sources", "set", "none", ""},
		{have.SubjectTransform == nil, "subject_transform", "set", "none", ""},
	}
	if runs {
		demands = append(demands, limitRequirements(have, want)...)
	}
	return unmetError(want.Name, demands)
}

// otherInbox returns the name of the inbox that has made the stream, if that is another
// one: the names of its streams begin with its own, and so do all their subjects.
func otherInbox(have, want jetstream.StreamConfig) string {
	owner := func(c jetstream.StreamConfig) (name string) {
		for i, subject := range c.Subjects {
			first, _, _ := strings.Cut(subject, ".")
			if i > 0 && first != name {
				return ""
			}
			name = first
		}
		return name
	}
	other := owner(have)
	if other == owner(want) || other != want.Name && !strings.HasPrefix(want.Name, other+"_") {
		return ""
	}
	return other
}

// limitRequirements are the requirements on limits set by the inbox. A size
// limit of a stream that refuses what exceeds it is none: another Caddy may
// have been configured with another size. Nor is the number of replicas: with
// fewer, events are still stored, but a refused callback is lost.
func limitRequirements(have, want jetstream.StreamConfig) (demands []requirement) {
	if want.MaxMsgs < 0 {
		demands = append(demands, requirement{have.MaxMsgs <= 0, "max_msgs", have.MaxMsgs, -1, "--max-msgs=-1"})
	}
	if want.MaxBytes < 0 {
		demands = append(demands, requirement{have.MaxBytes <= 0, "max_bytes", have.MaxBytes, -1, "--max-bytes=-1"})
	}
	return demands
}

// unmetError returns one error about all requirements that are not met.
func unmetError(stream string, demands []requirement) error {
	var wrong, edits []string
	final := false
	for _, d := range demands {
		if d.ok {
			continue
		}
		wrong = append(wrong, fmt.Sprintf("%s is %v and must be %v", d.what, d.have, d.must))
		if d.edit == "" {
			final = true
		} else {
			edits = append(edits, d.edit)
		}
	}
	switch {
	case len(wrong) == 0:
		return nil
	case final:
		return fmt.Errorf("%w: stream %s cannot be used: %s; NATS cannot change that back: move to a new stream, see https://github.com/fotor-webhook/caddy-fotor-webhook/blob/main/docs/operations.md#nats-a-stream-was-changed",
			inbox.ErrBroken, stream, strings.Join(wrong, "; "))
	default:
		return fmt.Errorf("%w: stream %s cannot be used: %s; mend it with: nats stream edit %s %s --force",
			inbox.ErrBroken, stream, strings.Join(wrong, "; "), stream, strings.Join(edits, " "))
	}
}
