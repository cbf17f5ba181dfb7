package main

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// What a page's script does, see app.js of the dashboard.
const (
	lookLeast = 2 * time.Second  // between two looks, unless the answer says otherwise
	lookIdle  = 10 * time.Second // a look without news

	// streamAgain is when a browser connects again, as the stream tells it.
	streamAgain = 2 * time.Second
)

// openPages are the pages that browsers have open, in turn.
var openPages = []string{"", "events"}

// browsers have pages of a dashboard open while its server is under load. They ask what
// the pages' script asks, when it does, and draw nothing.
type browsers struct {
	cancel  context.CancelFunc
	running sync.WaitGroup

	// How many answers they got, by what these were.
	pages, charts, files, news atomic.Int64

	mu     sync.Mutex
	faults faults
}

// browse opens that many pages of the server's dashboard. It returns once all have been
// shown, since that happens once and not all the time.
func (s *server) browse(ctx context.Context, count int) (*browsers, error) {
	b := &browsers{faults: make(faults)}
	open, cancel := context.WithCancel(ctx)
	b.cancel = cancel
	for i := range count {
		page := newBrowser(b, "http://"+s.dashboard+"/"+openPages[i%len(openPages)])
		err := page.show(open)
		if err == nil {
			err = page.listen(open)
		}
		if err != nil {
			b.stop()
			return nil, fmt.Errorf("opening %s: %w", page.address, err)
		}
		b.running.Go(func() { page.live(open) })
	}
	return b, nil
}

// stop closes all pages, and returns what went wrong with them.
func (b *browsers) stop() faults {
	b.cancel()
	b.running.Wait()
	return b.faults
}

func (b *browsers) String() string {
	return fmt.Sprintf("browsers were told %d times, and got %d pages, %d charts, %d files", b.news.Load(), b.pages.Load(), b.charts.Load(), b.files.Load())
}

// note counts a fault, unless the page has been closed.
func (b *browsers) note(ctx context.Context, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults.add("browser: "+fault(err), 1)
}

// browser is one of them, with connections of its own.
type browser struct {
	all      *browsers
	address  string
	client   *http.Client
	cached   map[string]bool // files that may be kept for ever
	pictures []string        // that are shown
	stream   string
	pause    time.Duration // between two looks
	told     chan struct{}
}

func newBrowser(all *browsers, address string) *browser {
	return &browser{
		all: all, address: address, cached: make(map[string]bool), told: make(chan struct{}, 1),
		client: &http.Client{Transport: &http.Transport{DisableCompression: true}}, // it asks for gzip itself
	}
}

// live does what the script does, until the page is closed.
func (b *browser) live(ctx context.Context) {
	defer b.client.CloseIdleConnections()
	asked := time.Now()
	timer := time.NewTimer(lookIdle)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.told:
			timer.Reset(max(0, b.pause-time.Since(asked)))
		case <-timer.C:
			asked = time.Now()
			b.all.note(ctx, b.show(ctx))
			timer.Reset(lookIdle)
		}
	}
}

// What a page loads. Charts of destinations are behind something that is closed, so a
// browser does not load them; nor does it load both looks of one.
var (
	filesOf    = regexp.MustCompile(`(?:href|src)="(\./[a-z]+\.[0-9a-f]+\.[a-z]+)"`)
	closedPart = regexp.MustCompile(`(?s)<details.*?</details>`)
	chartsOf   = regexp.MustCompile(`<img src="([^"]*chart\?[^"]*)"`)
	streamOf   = regexp.MustCompile(`data-stream="([^"]+)"`)
)

// show loads the page, and what it shows that is not there yet.
func (b *browser) show(ctx context.Context) error {
	page, header, err := b.get(ctx, "", "text/html")
	if err != nil {
		return err
	}
	b.pause = lookLeast
	if ms, err := strconv.Atoi(header.Get("Dashboard-Pause")); err == nil {
		b.pause = time.Duration(ms) * time.Millisecond
	}
	b.all.pages.Add(1)
	if found := streamOf.FindSubmatch(page); found != nil && b.stream == "" {
		b.stream = html.UnescapeString(string(found[1]))
	}
	for _, found := range filesOf.FindAllSubmatch(page, -1) {
		file := string(found[1])
		if b.cached[file] {
			continue
		}
		_, header, err := b.get(ctx, file, "*/*")
		if err != nil {
			return err
		}
		b.cached[file] = header.Get("Cache-Control") != ""
		b.all.files.Add(1)
	}
	var pictures []string
	for _, found := range chartsOf.FindAllSubmatch(closedPart.ReplaceAll(page, nil), -1) {
		picture := html.UnescapeString(string(found[1])) + "&tz=Europe%2FBerlin"
		pictures = append(pictures, picture)
		if slices.Contains(b.pictures, picture) {
			continue
		}
		if _, _, err := b.get(ctx, picture, "image/*"); err != nil {
			return err
		}
		b.all.charts.Add(1)
	}
	b.pictures = pictures
	return nil
}

// get loads what a link of the page leads to.
func (b *browser) get(ctx context.Context, link, accept string) (body []byte, header http.Header, err error) {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	response, err := b.ask(ctx, link, accept)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	read := io.Reader(response.Body)
	if response.Header.Get("Content-Encoding") == "gzip" {
		if read, err = gzip.NewReader(response.Body); err != nil {
			return nil, nil, err
		}
	}
	body, err = io.ReadAll(io.LimitReader(read, maxReply))
	return body, response.Header, err
}

func (b *browser) ask(ctx context.Context, link, accept string) (*http.Response, error) {
	page, err := url.Parse(b.address)
	if err != nil {
		return nil, err
	}
	at, err := page.Parse(link)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", accept)
	request.Header.Set("Accept-Encoding", "gzip")
	response, err := b.client.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		_ = response.Body.Close()
		return nil, fmt.Errorf("%s: status %d", at.Path, response.StatusCode)
	}
	return response, nil
}

// Faults of streams: such a page would not move.
var (
	errNoStream    = errors.New("the page has no stream")
	errStreamEnded = errors.New("the stream ended")
)

// listen follows the page's stream of news in the background.
func (b *browser) listen(ctx context.Context) error {
	if b.stream == "" {
		return errNoStream
	}
	b.all.running.Go(func() {
		b.all.note(ctx, b.follow(ctx))
		for every(ctx, streamAgain) {
			b.all.note(ctx, b.follow(ctx))
		}
	})
	return nil
}

// follow passes news on until the stream ends, which it must not.
func (b *browser) follow(ctx context.Context) error {
	response, err := b.ask(ctx, b.stream, "text/event-stream")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if lines.Text() != "event: change" {
			continue
		}
		b.all.news.Add(1)
		select {
		case b.told <- struct{}{}:
		default: // it is about to look
		}
	}
	return cmp.Or(lines.Err(), errStreamEnded)
}
