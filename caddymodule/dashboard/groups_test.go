package dashboard

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// group are the fields of the deliveries of a fakeGateway that failed alike.
var group = []string{"handler", "shop", "destination", "app", "status", "500", "reason", pattern("HTTP 500: worker 1 died")}

// slowly has groups end after each page until the test ends.
func slowly(t *testing.T) {
	t.Helper()
	before := groupWorks
	groupWorks = 0
	t.Cleanup(func() { groupWorks = before })
}

// goOn presses the button that goes on.
func (b *bench) goOn(n *notice) *httptest.ResponseRecorder {
	b.t.Helper()
	require.NotNil(b.t, n.Again, n.Text)
	var pairs []string
	for _, f := range n.Again.Fields {
		pairs = append(pairs, f.Name, f.Value)
	}
	return b.post(n.Again.Action, pairs...)
}

// A large group is changed in parts: each says how far it has come, and none changes twice
// what another has.
func TestALargeGroupIsReplayedInParts(t *testing.T) {
	slowly(t)
	const events = 3*control.ChangePage + 10
	g := newFakeGateway(events)
	g.dead[3] = deadRecord("other", 500, "HTTP 500: disk full")
	g.dead[4] = deadRecord("elsewhere", 502, "HTTP 500: worker 3 died")
	b := newBench(t, fakeProvider{"shop": g})
	n := b.notice(b.post(leafReplayGroup, group...))
	require.Equal(t, "Replayed 254 deliveries to app. That is not all yet: 254 so far.", n.Text)
	require.Equal(t, isWarn, n.Class)
	n = b.notice(b.goOn(n))
	require.Equal(t, "Replayed 256 deliveries to app. That is not all yet: 510 so far.", n.Text)
	n = b.notice(b.goOn(b.notice(b.goOn(n))))
	require.Equal(t, "Replayed 10 deliveries to app.", n.Text)
	require.Nil(t, n.Again)
	seen := make(map[string]bool)
	for _, asked := range g.asked {
		require.False(t, seen[asked], asked)
		seen[asked] = true
	}
	require.Len(t, seen, events-2)
	require.NotContains(t, seen, `replay other "app"`)
	require.Equal(t, 4, b.logs.FilterMessage("events replayed by hand").Len())
}

func TestAGroupThatHasChangedMeanwhile(t *testing.T) {
	b := newBench(t, fakeProvider{"shop": newFakeGateway(0)})
	n := b.notice(b.post(leafReplayGroup, group...))
	require.Equal(t, "Nothing replayed: no dead delivery to app failed like that any more.", n.Text)
	require.Equal(t, isWarn, n.Class)
	n = b.notice(b.post(leafReleaseGroup, "handler", "shop", "group", "other"))
	require.Equal(t, "Nothing released: no callback in quarantine is wrong like that any more.", n.Text)

	g := newFakeGateway(3)
	g.err = inbox.ErrState // somebody else has taken them
	b = newBench(t, fakeProvider{"shop": g})
	n = b.notice(b.post(leafReplayGroup, group...))
	require.Equal(t, "Replayed 0 deliveries to app. 3 have changed meanwhile.", n.Text)
	require.Equal(t, 1, b.logs.Len())
	require.Subset(t, b.logs.All()[0].ContextMap(), map[string]any{"matched": int64(3), "changed": int64(0), "skipped": int64(3)})
}

// If the inbox fails on the way, the page says how far it has come, and it can go on.
func TestAGroupThatFailsOnTheWay(t *testing.T) {
	g := newFakeGateway(2 * control.ChangePage)
	g.change = func(n int) {
		if n == control.ChangePage+1 {
			g.err = inbox.ErrFull
		}
	}
	b := newBench(t, fakeProvider{"shop": g})
	n := b.notice(b.post(leafReplayGroup, group...))
	require.Equal(t, isBad, n.Class)
	require.Equal(t, "Not done: the inbox is full. Make room first: raise its limit, or purge what nobody needs. 257 were done before that.", n.Text)
	g.err, g.change = nil, nil
	require.Contains(t, b.notice(b.goOn(n)).Text, "Replayed 256 deliveries to app.")
}

// A group ends with its client, and with the config that it is done under.
func TestAGroupEnds(t *testing.T) {
	g := newFakeGateway(20 * control.ChangePage)
	b := newBench(t, fakeProvider{"shop": g})
	g.change = func(n int) {
		if n == 300 {
			b.site.handler.stop()
		}
	}
	n := b.notice(b.post(leafReplayGroup, group...))
	require.Contains(t, n.Text, "Interrupted, because Caddy loads another config or stops: ")
	require.Less(t, len(g.asked), 5*control.ChangePage)
	require.NotNil(t, n.Again)

	g = newFakeGateway(20 * control.ChangePage)
	b = newBench(t, fakeProvider{"shop": g})
	ctx, hangUp := context.WithCancel(t.Context())
	g.change = func(n int) {
		if n == 300 {
			hangUp()
		}
	}
	form := make(url.Values)
	for i := 0; i < len(group); i += 2 {
		form.Set(group[i], group[i+1])
	}
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/"+leafReplayGroup, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	b.serve(r)
	require.Less(t, len(g.asked), 5*control.ChangePage)
	require.Equal(t, 1, b.logs.FilterMessage("events replayed by hand").Len(), "what was done is logged all the same")
	require.Empty(t, working, "others may begin")
}

func TestGroupsAtOnceAreBounded(t *testing.T) {
	g := newFakeGateway(1)
	b := newBench(t, fakeProvider{"shop": g})
	for range cap(working) {
		working <- struct{}{}
	}
	n := b.notice(b.post(leafReplayGroup, group...))
	require.Equal(t, "Not done: other groups are being changed just now. Try again in a moment.", n.Text)
	require.Empty(t, g.asked)
	for range cap(working) {
		<-working
	}
}

func TestAGroupOfTheQuarantineIsReleasedInParts(t *testing.T) {
	slowly(t)
	const callbacks = inbox.MaxPage + 10
	g := newFakeGateway(callbacks)
	b := newBench(t, fakeProvider{"shop": g})
	key := (&control.Quarantined{Status: 422, Problems: []control.Problem{{Pointer: "/avatarResult/7", Detail: "must be an object"}}}).GroupKey()
	n := b.notice(b.post(leafReleaseGroup, "handler", "shop", "group", key))
	require.Equal(t, "Released 1,000 callbacks. That is not all yet: 1,000 so far.", n.Text)
	require.Equal(t, "release 11", g.asked[0], "those of a page in the order in which they arrived")
	n = b.notice(b.goOn(n))
	require.Equal(t, "Released 10 callbacks.", n.Text)
	require.Len(t, g.asked, callbacks)

	g.err = &control.InvalidError{}
	n = b.notice(b.post(leafReleaseGroup, "handler", "shop", "group", key))
	require.Contains(t, n.Text, "Released 0 callbacks. Still not valid by today's rules, and kept: 1,000.")
	g.err = inbox.ErrNotFound
	n = b.notice(b.post(leafReleaseGroup, "handler", "shop", "group", key))
	require.Contains(t, n.Text, "1,000 are gone meanwhile.")
}

// What Fotor did not confirm may be forged, so a group of that is not released by a form that
// is made up either.
func TestAGroupThatFotorDidNotConfirmIsNotReleased(t *testing.T) {
	g := newFakeGateway(2)
	for _, s := range g.suspects {
		s.Status = http.StatusOK
	}
	b := newBench(t, fakeProvider{"shop": g})
	key := (&control.Quarantined{Status: http.StatusOK, Problems: []control.Problem{{Pointer: "/avatarResult/7", Detail: "must be an object"}}}).GroupKey()
	n := b.notice(b.post(leafReleaseGroup, "handler", "shop", "group", key))
	require.Equal(t, "Nothing released: Fotor did not confirm these callbacks, so they are released one by one.", n.Text)
	require.Equal(t, isWarn, n.Class)
	require.Empty(t, g.asked)
}

// What a page shows as a group is what its form names, whatever the reason is made of.
func TestGroupsSurviveTheirForm(t *testing.T) {
	for _, reason := range []string{
		"", "HTTP 500: a\r\nb\nc", "\u202egnp", "\x00\x1b[31m", " x ", strings.Repeat("😀", 500), strings.Repeat("\u202e", 500), "<b>&\"'", "#",
	} {
		key := deadKeyOf("app", &control.Event{LastAttempt: &control.Attempt{Status: 500, Reason: reason}})
		form := make(url.Values)
		for _, f := range append(key.fields(), field{"handler", "shop"}) {
			form.Set(f.Name, strings.ReplaceAll(f.Value, "\n", "\r\n")) // as browsers do
		}
		g := newFakeGateway(0)
		g.dead = []*inbox.Record{deadRecord("e1", 500, reason)}
		b := newBench(t, fakeProvider{"shop": g})
		var pairs []string
		for name := range form {
			pairs = append(pairs, name, form.Get(name))
		}
		require.Equal(t, "Replayed 1 delivery to app.", b.notice(b.post(leafReplayGroup, pairs...)).Text, "%q", reason)
	}
}
