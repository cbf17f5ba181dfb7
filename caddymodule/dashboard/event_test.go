package dashboard

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// Of an id that nobody would see there is something to read, and to click.
func TestInvisibleIDsAreSeen(t *testing.T) {
	for id, want := range map[string]string{
		"   ": `\x20\x20\x20`, "abc ": `abc\x20`, "\u0301\u0302": `\u0301\u0302`, "\u034f": `\u034f`, "\ufe0f": `\ufe0f`,
		"\u17b4": `\u17b4`, "\u20dd": `\u20dd`, "\u3164": `\u3164`, "\u115f\u1160": `\u115f\u1160`, "\uffa0": `\uffa0`, "\u2800": `\u2800`,
	} {
		g := newFakeGateway(1)
		g.dead[0].Event.TaskID, g.dead[0].Event.Type = id, id
		b := newBench(t, fakeProvider{"shop": g})
		list, event := b.page("/events?order=asc"), b.page("/event?id=e00000")
		require.Contains(t, list, `">`+want+"</a>", "%+q", id)
		require.Contains(t, list, "<bdi>"+want+"</bdi>", "%+q", id)
		require.Contains(t, event, "<title>Event "+want+" ·", "%+q", id)
		require.Contains(t, event, `</span> <span class="id">`+want+"</span></h1>", "%+q", id)
		require.Contains(t, event, `<dd class="id">`+want+"</dd>", "%+q", id)
		require.Contains(t, b.page("/purge?id=e00000"), want, "%+q", id)
	}
}

// What waits because its destination does says so, in the words of the overview.
func TestAnEventSaysThatItsDestinationIsHeld(t *testing.T) {
	const free = "May be tried at any moment"
	later := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	byHand := control.Hold{Destination: "app", By: control.ByOperator, Reason: "ops: <work>"}
	trouble := control.Hold{Destination: "app", By: control.ByUpstream, Until: &later, Reason: "HTTP 503"}
	for name, c := range map[string]struct {
		destination string
		holds       []control.Hold
		want        []string
	}{
		"free":                    {"app", nil, []string{free}},
		"another is held":         {"staging", []control.Hold{byHand}, []string{free}},
		"held by hand":            {"app", []control.Hold{byHand}, []string{"Held by hand", "Nothing is delivered until somebody resumes it.", "ops: &lt;work&gt;"}},
		"in trouble":              {"app", []control.Hold{trouble}, []string{"In trouble", "single events are tried. Next try at <time", "HTTP 503"}},
		"both":                    {"app", []control.Hold{trouble, byHand}, []string{"Held by hand"}},
		"not in the config":       {"old", nil, []string{"Left behind", "No running config names it."}},
		"Fotor is to be asked":    {inbox.ConfirmDestination, nil, []string{"Fotor is asked at any moment"}},
		"a hold that another had": {inbox.ConfirmDestination, []control.Hold{byHand}, []string{"Fotor is asked at any moment"}},
	} {
		t.Run(name, func(t *testing.T) {
			g := newFakeGateway(1)
			g.holds = c.holds
			r := g.dead[0]
			r.Progress, r.Deliveries = inbox.Progress{}, []inbox.Delivery{{Destination: c.destination}}
			if c.destination == inbox.ConfirmDestination {
				r.Event.Status = inbox.Unconfirmed
			}
			page := newBench(t, fakeProvider{"shop": g}).page("/event?id=e00000")
			for _, want := range c.want {
				require.Contains(t, page, want)
			}
			if c.want[0] != free {
				require.NotContains(t, page, free)
			}
		})
	}
}

// Fotor has answered, though not with an HTTP status that an attempt records.
func TestAttemptsAtFotorAreNotWithoutAnAnswer(t *testing.T) {
	g := newFakeGateway(1)
	r := g.dead[0]
	asked := inbox.Attempt{At: time.Unix(9, 0), Reason: `asking Fotor: the answer has the code "999": expected "000"`}
	r.Event.Status = inbox.Unconfirmed
	r.Progress = inbox.Progress{Attempts: 1, Last: asked}
	r.Deliveries = []inbox.Delivery{{Destination: inbox.ConfirmDestination, Progress: r.Progress, Log: []inbox.Attempt{asked}}}
	b := newBench(t, fakeProvider{"shop": g})
	for _, path := range []string{"/events?order=asc", "/event?id=e00000"} {
		page := b.page(path)
		require.Contains(t, page, `<span class="answer bad">Not confirmed</span>`, path)
		require.Contains(t, page, "the answer has the code", path)
		require.NotContains(t, page, "No answer", path)
	}
	require.Equal(t, "Done", ended(inbox.ConfirmDestination, control.Attempt{}).Word)
	require.Equal(t, "No answer", ended("app", control.Attempt{Reason: "connection refused"}).Word)

	queue := control.Destination{Name: inbox.ConfirmDestination, Configured: true}
	require.Equal(t, "Callbacks that wait until Fotor confirms them.", destinationCondition(&queue).Why)
}
