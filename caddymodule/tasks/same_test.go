package tasks

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// seen is all that a client gets.
type seen struct {
	status        int
	informational []int
	header        http.Header
	length        int64
	transfer      []string
	trailer       http.Header
	body          string
	broken        bool
}

// see makes a request.
func (s *stand) see(server, method string, http2 bool) seen {
	s.t.Helper()
	var got seen
	var mu sync.Mutex
	ctx := httptrace.WithClientTrace(s.t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
		mu.Lock()
		defer mu.Unlock()
		got.informational = append(got.informational, code)
		return nil
	}})
	r, err := http.NewRequestWithContext(ctx, method, "http://caddy/v1/aiart/text2img", strings.NewReader(`{"prompt":"a cat"}`))
	require.NoError(s.t, err)
	r.Header.Set("TE", "trailers")
	resp, err := s.client(server, http2).Do(r)
	if err != nil {
		return seen{broken: true}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	mu.Lock()
	defer mu.Unlock()
	for _, name := range []string{"Date", "X-Encoding"} {
		resp.Header.Del(name)
	}
	got.status, got.header, got.length, got.transfer = resp.StatusCode, resp.Header, resp.ContentLength, resp.TransferEncoding
	got.trailer, got.body, got.broken = resp.Trailer, string(body), err != nil
	return got
}

func filled(length int) string {
	frame := len(documented(""))
	return strings.Replace(documented("t1"), "success", strings.Repeat("s", length-frame-len("t1")+len("success")), 1)
}

// TestAnswersAreTheSame compares what clients get with what they get without fotor_tasks.
func TestAnswersAreTheSame(t *testing.T) {
	type does func(w http.ResponseWriter, r *http.Request)
	text := func(status int, media, body string, more ...string) does {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", media)
			for i := 0; i < len(more); i += 2 {
				w.Header().Set(more[i], more[i+1])
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	const media = "application/json"
	for name, c := range map[string]struct {
		method  string // "" is POST
		answer  does
		tracked []string
		unread  int
	}{
		"documented":         {answer: text(200, media, documented("t1")), tracked: []string{"t1"}},
		"created":            {answer: text(201, media+"; charset=utf-8", documented("t1")), tracked: []string{"t1"}},
		"with its length":    {answer: text(200, media, documented("t1"), "Content-Length", strconv.Itoa(len(documented("t1"))), "X-A", "b"), tracked: []string{"t1"}},
		"several":            {answer: text(200, media, `{"code":"000","data":[{"taskId":"a"},{"taskId":"b"},{},{"taskId":"a"}]}`), tracked: []string{"a", "b"}},
		"without a task":     {answer: text(200, media, `{"code":"000","data":{"total":5}}`)},
		"without data":       {answer: text(200, media, `{"code":"000"}`)},
		"null":               {answer: text(200, media, `{"code":"000","data":null}`)},
		"not successful":     {answer: text(200, media, `{"code":"510","msg":"credits","data":{"taskId":"t1"}}`)},
		"a code of a number": {answer: text(200, media, `{"code":0,"data":{"taskId":"t1"}}`)},
		"an id of a number":  {answer: text(200, media, `{"code":"000","data":{"taskId":1}}`), unread: 1},
		"an array":           {answer: text(200, media, `[]`), unread: 1},
		"not JSON":           {answer: text(200, media, `{"code":"000",`), unread: 1},
		"empty":              {answer: text(200, media, ""), unread: 1},
		"not UTF-8":          {answer: text(200, media, documented("\xff")), unread: 1},
		"of another type":    {answer: text(200, "text/plain", documented("t1"))},
		"of no type": {answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = nil
			_, _ = io.WriteString(w, documented("t1"))
		}},
		"an error":              {answer: text(500, media, documented("t1"))},
		"a redirect":            {answer: text(307, media, documented("t1"), "Location", "https://example.com")},
		"no content":            {answer: text(204, media, "")},
		"reset content":         {answer: text(205, media, "")},
		"not modified":          {answer: text(304, media, "")},
		"GET":                   {method: "GET", answer: text(200, media, documented("t1"))},
		"HEAD":                  {method: "HEAD", answer: text(200, media, "", "Content-Length", "1234")},
		"PUT":                   {method: "PUT", answer: text(200, media, documented("t1"))},
		"compressed":            {answer: text(200, media, documented("t1"), "Content-Encoding", "br"), unread: 1},
		"encoded as it is":      {answer: text(200, media, documented("t1"), "Content-Encoding", "identity"), tracked: []string{"t1"}},
		"64 KiB":                {answer: text(200, media, filled(maxAnswer)), tracked: []string{"t1"}},
		"64 KiB and a byte":     {answer: text(200, media, filled(maxAnswer+1)), unread: 1},
		"64 KiB, known":         {answer: text(200, media, filled(maxAnswer), "Content-Length", strconv.Itoa(maxAnswer)), tracked: []string{"t1"}},
		"64 KiB, a byte, known": {answer: text(200, media, filled(maxAnswer+1), "Content-Length", strconv.Itoa(maxAnswer+1)), unread: 1},
		"a megabyte":            {answer: text(200, media, filled(1<<20)), unread: 1},
		"server-sent events":    {answer: text(200, "text/event-stream", "data: 1\n\n")},
		"early hints": {answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "</a>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Del("Link")
			answerJSON(documented("t1"))(w, nil)
		}, tracked: []string{"t1"}},
		"in pieces": {answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", media)
			for piece := range strings.SplitAfterSeq(documented("t1"), ",") {
				_, _ = io.WriteString(w, piece)
				_ = http.NewResponseController(w).Flush()
			}
		}, tracked: []string{"t1"}},
		"a trailer that is announced": {answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "X-Sum")
			answerJSON(documented("t1"))(w, nil)
			w.Header().Set("X-Sum", "12")
		}, tracked: []string{"t1"}},
		"a trailer that is not announced": {answer: func(w http.ResponseWriter, _ *http.Request) {
			answerJSON(documented("t1"))(w, nil)
			_ = http.NewResponseController(w).Flush()
			w.Header().Set(http.TrailerPrefix+"X-Sum", "12")
		}, tracked: []string{"t1"}},
		"broken off": {answer: func(w http.ResponseWriter, _ *http.Request) {
			text(200, media, `{"code":"000"`, "Content-Length", "1000")(w, nil)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, unread: 1},
		"broken off at once": {answer: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
	} {
		for version, http2 := range map[string]bool{"HTTP 1": false, "HTTP 2": true} {
			t.Run(name+" "+version, func(t *testing.T) {
				s := newStand(t)
				s.answers(http.HandlerFunc(c.answer))
				method := c.method
				if method == "" {
					method = http.MethodPost
				}
				want := s.see(plain, method, http2)
				require.Empty(t, s.gateway.tracked())
				require.Equal(t, want, s.see(watched, method, http2))
				require.Equal(t, c.tracked, s.gateway.tracked())
				require.Len(t, s.lines("answer not read"), c.unread)
			})
		}
	}
}

// Fotor compresses nothing that has to be read. What the client accepts holds for the way
// between it and Caddy.
func TestUpstreamIsAskedForNoCompression(t *testing.T) {
	s := newStandWith(t, `{"handler":"encode","encodings":{"gzip":{}},"minimum_length":1},{"handler":"fotor_tasks"},`)
	encodings := make(chan []string, 1)
	s.answers(func(w http.ResponseWriter, r *http.Request) {
		encodings <- r.Header["Accept-Encoding"]
		answerJSON(documented("t1"))(w, r)
	})
	ask := func(method, accept string) (http.Header, string) {
		r, err := http.NewRequestWithContext(t.Context(), method, "http://caddy/", nil)
		require.NoError(t, err)
		if accept != "" {
			r.Header.Set("Accept-Encoding", accept)
		}
		resp, err := s.client(watched, false).Do(r)
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.Header, string(body)
	}
	header, zipped := ask(http.MethodPost, "gzip")
	require.Equal(t, []string{"identity"}, <-encodings)
	require.Equal(t, "gzip", header.Get("Content-Encoding"))
	unzipped, err := gzip.NewReader(strings.NewReader(zipped))
	require.NoError(t, err)
	body, err := io.ReadAll(unzipped)
	require.NoError(t, err)
	require.Equal(t, documented("t1"), string(body))
	require.Equal(t, []string{"t1"}, s.gateway.tracked())

	header, _ = ask(http.MethodPost, "")
	require.Equal(t, []string{"identity"}, <-encodings)
	require.Empty(t, header.Get("Content-Encoding"))
	ask(http.MethodGet, "br, gzip")
	require.Equal(t, []string{"br, gzip"}, <-encodings)

	s.gateway.notAsking = true
	ask(http.MethodPost, "br, gzip")
	require.Equal(t, []string{"br, gzip"}, <-encodings)
}
