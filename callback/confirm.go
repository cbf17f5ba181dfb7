package callback

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// kept is the body of an event that stands for a final callback until Fotor was asked
// whether it says the same.
type kept struct {
	ID         string          `json:"id"` // of the event that the callback becomes
	ReceivedAt time.Time       `json:"receivedAt"`
	SourceIP   netip.Addr      `json:"sourceIp"`
	Callback   json.RawMessage `json:"callback"` // as it came
}

// Keep returns the event under which a final callback is stored until Fotor was asked. e is
// the event that the callback becomes, and body is the callback as it came, from the source.
// The callback is a duplicate of e if that is stored.
func Keep(e *inbox.Event, body []byte, source netip.Addr) (*inbox.Event, error) {
	id, err := inbox.UnconfirmedID(e.ID)
	if err != nil {
		return nil, err
	}
	begin, err := json.Marshal(kept{ID: e.ID, ReceivedAt: e.ReceivedAt, SourceIP: source})
	if err != nil {
		return nil, err
	}
	// The callback is not marshalled: that would change the spelling of its texts.
	text := append(bytes.TrimSuffix(begin, []byte("null}")), bytes.TrimPrefix(body, byteOrderMark)...)
	return &inbox.Event{
		ID: id, FormerID: e.ID, TaskID: e.TaskID, Type: e.Type, Status: inbox.Unconfirmed, ReceivedAt: e.ReceivedAt,
		Body: append(text, '}'), Destinations: []string{inbox.ConfirmDestination},
		TraceParent: e.TraceParent, TraceState: e.TraceState,
	}, nil
}

// Kept is a callback that was stored by Keep.
type Kept struct {
	*Callback
	Body   []byte     // as it came
	Source netip.Addr // who called

	event *inbox.Event
}

// ReadKept returns the callback of an event that Keep has made. By the rules of now it may
// not be a callback any more: then there is also an *InvalidError.
func ReadKept(e *inbox.Event, rules *Rules) (k *Kept, err error) {
	var read kept
	if err := json.Unmarshal(e.Body, &read); err != nil {
		return nil, fmt.Errorf("the body of event %s, which is not confirmed: %w", e.ID, err)
	}
	if e.Status != inbox.Unconfirmed || len(read.Callback) == 0 {
		return nil, fmt.Errorf("event %s stands for no callback", e.ID)
	}
	k = &Kept{Body: read.Callback, Source: read.SourceIP, event: e}
	k.Callback, err = Parse(read.Callback, rules)
	return k, err
}

// Event makes the event of the callback, which arrived when and from where it did.
func (k *Kept) Event(c Confirmation) *inbox.Event {
	e := k.Callback.Event(Arrival{At: k.event.ReceivedAt, Source: k.Source, Confirmed: c, Compared: true})
	e.TraceParent, e.TraceState = k.event.TraceParent, k.event.TraceState
	return e
}

// Contradictions returns where Fotor's API says otherwise than a callback, in the order of
// the callback's members: in the status, a URL, or anything else about the avatars. The type
// and the business count if both have them. None means that the callback is confirmed.
func (c *Callback) Contradictions(api *Callback) (all []Problem) {
	differ := func(pointer string, one, other jsonString) {
		if !bytes.Equal(one, other) {
			all = append(all, Problem{Pointer: pointer, Detail: "Fotor's API says otherwise"})
		}
	}
	if c.Status != api.Status || c.code != api.code {
		all = append(all, Problem{Pointer: "/status", Detail: fmt.Sprintf("Fotor's API says %d, %s", api.code, api.Status)})
	}
	differ("/type", c.taskType, api.taskType)
	if !c.businessID.isNothing() && !api.businessID.isNothing() {
		differ("/businessId", c.businessID, api.businessID)
	}
	differ("/resultUrl", c.rules.appendURL(nil, c.resultURL), api.rules.appendURL(nil, api.resultURL))
	if len(c.avatars) != len(api.avatars) {
		return append(all, Problem{Pointer: "/avatarResult", Detail: fmt.Sprintf("Fotor's API has %d templates", len(api.avatars))})
	}
	for i := range c.avatars {
		differ(fmt.Sprintf("/avatarResult/%d", i), c.avatars[i].append(nil, c.rules, false), api.avatars[i].append(nil, api.rules, false))
		if len(all) == maxProblems {
			break
		}
	}
	return all
}

// told is what an event's body says in documented fields.
type told struct {
	TaskID     string  `json:"taskId"`
	Type       string  `json:"type"`
	Status     string  `json:"status"`
	StatusCode *int    `json:"statusCode"`
	BusinessID *string `json:"businessId"`
	ResultURL  *string `json:"resultUrl"`
	Avatars    []struct {
		TemplateID string `json:"templateId"`
		Images     []struct {
			ID        string `json:"id"`
			URL       string `json:"url"`
			Sensitive bool   `json:"sensitive"`
		} `json:"images"`
	} `json:"avatars"`
}

// SameOutcome reports whether the bodies of two events say the same in all documented
// fields, as events with the same Outcome do.
func SameOutcome(one, other []byte) bool {
	var a, b told
	return json.Unmarshal(one, &a) == nil && json.Unmarshal(other, &b) == nil && reflect.DeepEqual(a, b)
}

// AskedFor reports whether the body of an event says that Fotor was asked for it.
func AskedFor(body []byte) bool {
	var event struct {
		Origin string `json:"origin"`
	}
	return json.Unmarshal(body, &event) == nil && event.Origin == inbox.FromAPI.String()
}
