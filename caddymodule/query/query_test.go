package query_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/query"
	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

func TestFilterIsRead(t *testing.T) {
	p := query.New("state=dead,pending&destination=app&task=t&type=avatar&since=2h&until=2026-11-23T12:00:00Z", control.FilterParams...)
	p.Now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	f := p.Filter()
	require.NoError(t, p.Err())
	require.Equal(t, inbox.Filter{
		Destination: "app", TaskID: "t", Type: "avatar",
		States: []inbox.State{inbox.Dead, inbox.Pending},
		Since:  p.Now.Add(-2 * time.Hour), Until: p.Now,
	}, f)
}

// Every fault names the parameter, what it is and what is expected.
func TestFaultsAreSaid(t *testing.T) {
	known := append([]string{"limit", "cursor", "order", "recent", "ip", "forwarded_for", "dry_run"}, control.FilterParams...)
	for raw, want := range map[string]string{
		"stat=dead":                "unknown here: expected ",
		"state=dead&state=pending": `parameter "state": it is given 2 times: expected once`,
		"task=" + strings.Repeat("x", query.MaxText+1): `parameter "task": it has 4097 bytes: expected at most 4096`,
		"%zz":               "the query cannot be read: ",
		"state=alive":       `parameter "state": it has "alive": expected pending, delivered, superseded, dead, skipped, separated by commas`,
		"task=":             `parameter "task": it is empty: expected a value, or no such parameter`,
		"destination=a/b":   `parameter "destination": `,
		"since=yesterday":   `parameter "since": it is "yesterday": expected a time such as`,
		"since=1h&until=2h": `parameter "until": it is no later than since: expected a later time`,
		"limit=0":           `parameter "limit": it is "0": expected a number from 1 to 1000`,
		"order=up":          `parameter "order": it has "up": expected asc, desc, separated by commas`,
		"order=asc,desc":    `parameter "order": it is "asc,desc": expected asc or desc`,
		"recent=1s":         `parameter "recent": it is "1s": expected a duration from 10s to 1h0m0s, such as 5m`,
		"dry_run=yes":       `parameter "dry_run": it is "yes": expected true or false`,
		"forwarded_for=%0a": `parameter "forwarded_for": it has control characters`,
	} {
		p := query.New(raw, known...)
		if !p.Has("ip") && p.Err() == nil {
			p.Values.Set("ip", "192.0.2.1")
		}
		p.Filter()
		p.Page()
		p.Recent()
		p.Boolean("dry_run")
		p.Caller()
		require.ErrorContains(t, p.Err(), want, raw)
	}
	p := query.Of(url.Values{"ip": {"localhost"}}, "ip")
	p.Caller()
	require.EqualError(t, p.Err(), `parameter "ip": it is "localhost": expected an IPv4 or IPv6 address`)
}
