package browsertest

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// manyEvents is how many events TestManyEvents looks at. A million take some minutes to be
// sent; what a page reads does not depend on it beyond some thousands.
var manyEvents = flag.Int("events", 20_000, "how many events TestManyEvents sends")

// many sends callbacks of that many tasks, and returns the id of the first one's event.
func (g *gateway) many(n int) (first string) {
	g.t.Helper()
	first = g.accept(task("task-0000000", "rareType", 1))
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	defer client.CloseIdleConnections()
	var next, accepted, failed atomic.Int64
	var senders sync.WaitGroup
	for range 32 {
		senders.Go(func() {
			for {
				i := next.Add(1)
				if i >= int64(n) {
					return
				}
				body, err := json.Marshal(task(fmt.Sprintf("task-%07d", i), "avatar", 1))
				if err != nil {
					failed.Add(1)
					return
				}
				r, err := client.Post(g.Site+"/callback", "application/json", bytes.NewReader(body)) //nolint:noctx // on this machine
				if err != nil || r.Body.Close() != nil || r.StatusCode != http.StatusOK {
					failed.Add(1)
					return
				}
				accepted.Add(1)
			}
		})
	}
	senders.Wait()
	require.Zero(g.t, failed.Load())
	require.EqualValues(g.t, n-1, accepted.Load())
	g.await("pending", 0)
	return first
}

// However many events there are, each page shows those that it should.
func TestManyEvents(t *testing.T) {
	n := *manyEvents
	g := start(t, config{Handler: "concurrency 256"})
	first := g.many(n)
	b := browse(t, desktop)

	b.open(g.Dashboard + "events")
	newest := b.tasks()
	require.Len(t, newest, 50)
	eval[int](b, "window.old = 1")
	b.click("[rel=next]")
	b.wait("window.old === undefined && document.readyState === 'complete'")
	older := b.tasks()
	require.Len(t, older, 50)
	require.NotContains(t, older, newest[49])

	b.open(g.Dashboard + "events?order=asc")
	require.Equal(t, "task-0000000", b.tasks()[0])
	b.open(g.Dashboard + "events?task=task-0000000")
	require.Equal(t, []string{"task-0000000"}, b.tasks())
	b.open(g.Dashboard + "events?order=asc&type=rareType")
	require.Equal(t, []string{"task-0000000"}, b.tasks())
	b.open(g.Dashboard + "events?state=delivered&since=1d")
	require.Len(t, b.tasks(), 50)
	b.open(g.Dashboard + "events?state=dead")
	require.Contains(t, b.text(), "No event fits")

	// what is rare and far back is found by going on
	goOn := func() {
		for looks := 0; strings.Contains(b.text(), "None here so far"); looks++ {
			require.Less(t, looks, n/1000+2, "each page looks at some thousand events")
			eval[int](b, "window.old = 1")
			b.click("[rel=next]")
			b.wait("window.old === undefined && document.readyState === 'complete'")
		}
	}
	b.open(g.Dashboard + "events?type=rareType")
	goOn()
	require.Equal(t, []string{"task-0000000"}, b.tasks())
	b.open(g.Dashboard + "events?until=1d")
	goOn()
	require.Contains(t, b.text(), "No event fits")

	b.open(g.Dashboard + "events")
	eval[int](b, "window.old = 1")
	b.run(chromedp.SendKeys(chromedp.CSS("#q"), first[:14]+"\r"))
	b.wait("window.old === undefined && document.readyState === 'complete'")
	require.Contains(t, b.text(), first)

	b.open(g.Dashboard)
	require.Contains(t, strings.ReplaceAll(b.text(), ",", ""), fmt.Sprint(n))
}
