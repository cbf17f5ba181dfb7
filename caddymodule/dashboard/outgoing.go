package dashboard

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// outgoing is the header with which an event goes to its destinations.
type outgoing struct {
	Fields []outgoingField

	// Elsewhere are the event's destinations that the config does not have.
	Elsewhere []string
}

// outgoingField is a field of the header. Note stands for a value that each attempt has
// anew.
type outgoingField struct{ Name, Value, Note string }

// outgoingOrder is the order in which fields are shown; others follow by name.
var outgoingOrder = []string{"Content-Type", "Webhook-Id", "Webhook-Timestamp", "Webhook-Signature", "Idempotency-Key", "Fotor-Webhook-Attempt", "Fotor-Task-Type", "Fotor-Task-Status"}

// outgoing returns the header of an event's deliveries. A signature is not shown: whoever
// may only look could use it to send the event to the service themselves.
func (v *visit) outgoing(ctx context.Context, detail *control.EventDetail) (out outgoing, err error) {
	record, err := v.gateway.Inbox().Get(ctx, detail.ID)
	if errors.Is(err, inbox.ErrNotFound) { // it was purged this moment
		return out, nil
	} else if err != nil {
		return out, err
	}
	var fields map[string]string
	var signing []string
	configured := v.gateway.Destinations()
	for i := range record.Deliveries {
		name := record.Deliveries[i].Destination
		if !slices.Contains(configured, name) {
			out.Elsewhere = append(out.Elsewhere, name)
			continue
		}
		header := v.gateway.Copy(record.Event, name)
		if _, signed := header["Webhook-Signature"]; signed {
			signing = append(signing, name)
		}
		if fields == nil || len(header) > len(fields) {
			fields = header
		}
	}
	notes := map[string]string{
		"Webhook-Timestamp":     "the time of the attempt, in Unix seconds",
		"Fotor-Webhook-Attempt": "the number of the attempt",
		"Webhook-Signature":     "made for each attempt with the secret of " + strings.Join(signing, ", "),
		"Traceparent":           "of the callback; of the attempt if it is traced",
	}
	for name, value := range fields {
		switch name {
		case "Fotor-Webhook-Copy": // only copies have it
			continue
		case "Webhook-Signature":
			value = "v1,…"
		case "Webhook-Timestamp", "Fotor-Webhook-Attempt":
			value = ""
		}
		out.Fields = append(out.Fields, outgoingField{name, value, notes[name]})
	}
	rank := func(name string) int {
		if i := slices.Index(outgoingOrder, name); i >= 0 {
			return i
		}
		return len(outgoingOrder)
	}
	slices.SortFunc(out.Fields, func(a, b outgoingField) int {
		if d := rank(a.Name) - rank(b.Name); d != 0 {
			return d
		}
		return strings.Compare(a.Name, b.Name)
	})
	return out, nil
}
