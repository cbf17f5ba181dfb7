package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// page is one as the dashboard serves it, with a chart of a given time.
const page = `<link rel="stylesheet" href="./app.0a1b2c.css"><script src="./app.0d0e0f.js" defer></script>
<p class="live" id="live" data-stream="./live?handler=a&amp;b=c"></p>
<source media="dark" srcset="./chart?of=callbacks&amp;dark=true&amp;at=%[1]d"><img src="./chart?of=callbacks&amp;at=%[1]d" alt="">
<details class="more"><img src="./chart?of=ages&amp;at=%[1]d" alt=""></details>`

// A browser loads what a page shows: files once, a chart when its address changes.
func TestABrowserLoadsWhatAPageShows(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	at := 1
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.URL.RequestURI())
		mu.Unlock()
		switch {
		case r.URL.Path == "/events":
			w.Header().Set("Dashboard-Pause", "4200")
			fmt.Fprintf(w, page, at)
		case r.URL.Path == "/live":
			_, _ = w.Write([]byte("retry: 2000\n\n: ping\n\nevent: change\ndata: \n\n"))
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		case strings.HasPrefix(r.URL.Path, "/app."):
			w.Header().Set("Cache-Control", "immutable")
		}
	}))
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	all := &browsers{faults: make(faults), cancel: cancel}
	b := newBrowser(all, server.URL+"/events")
	defer b.client.CloseIdleConnections()

	look := func() (urls []string) {
		require.NoError(t, b.show(ctx))
		mu.Lock()
		defer mu.Unlock()
		urls, asked = asked, nil
		return urls
	}
	chart := func(at int) string { return fmt.Sprintf("/chart?of=callbacks&at=%d&tz=Europe%%2FBerlin", at) }
	require.Equal(t, []string{"/events", "/app.0a1b2c.css", "/app.0d0e0f.js", chart(1)}, look())
	require.Equal(t, 4200*time.Millisecond, b.pause)
	require.Equal(t, []string{"/events"}, look())
	at = 2
	require.Equal(t, []string{"/events", chart(2)}, look())

	require.NoError(t, b.listen(ctx))
	<-b.told
	require.Equal(t, int64(1), all.news.Load())
	require.Empty(t, all.stop().String())
	require.Equal(t, []string{"/live?handler=a&b=c"}, asked)
	require.Equal(t, "browsers were told 1 times, and got 3 pages, 2 charts, 2 files", all.String())
}

func TestADashboardIsOnlyServedWhereBrowsersAre(t *testing.T) {
	for _, c := range contenders {
		text := c.caddyfile("127.0.0.1:1", "127.0.0.1:2", "/storage", "WARN", places{dashboard: "127.0.0.1:3"})
		require.Equal(t, strings.HasSuffix(c.key, "dash"), strings.Contains(text, "http://127.0.0.1:3 {\n\tfotor_webhook_dashboard {"), c.key)
	}
}
