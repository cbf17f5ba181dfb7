package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

func noPause(ctx context.Context, _ time.Duration) error { return ctx.Err() }

// writeNotices writes notices as a stream does, with ids that begin at first.
func writeNotices(w io.Writer, first int, notices ...control.Notice) {
	for i, n := range notices {
		data, err := json.Marshal(n)
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(w, "event: %s\nid: e-%d\ndata: %s\n\n", n.Kind, first+i, data)
	}
}

// oneNotice is a stream that has one notice and stays open.
func oneNotice(t *testing.T) []func(http.ResponseWriter, *http.Request) {
	return []func(http.ResponseWriter, *http.Request){func(w http.ResponseWriter, r *http.Request) {
		writeNotices(w, 1, control.Notice{Kind: control.Resumed, At: testNow})
		flush(t, w)
		<-r.Context().Done()
	}}
}

// TestTailReconnects has streams that end, break off in the middle of a notice, or are
// refused, and checks what is asked for again and after which pauses.
func TestTailReconnects(t *testing.T) {
	f, env := startFake(t, sampleHandler("default")), testEnvironment()
	var pauses []time.Duration
	env.pause = func(ctx context.Context, d time.Duration) error {
		pauses = append(pauses, d)
		return ctx.Err()
	}
	var lastIDs []string
	notice := control.Notice{Kind: control.Resumed, Handler: "default", At: testNow}
	stream := func(answer func(http.ResponseWriter)) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) {
			assert.Equal(t, "text/event-stream", r.Header.Get("Accept"))
			lastIDs = append(lastIDs, r.Header.Get("Last-Event-ID"))
			answer(w)
		}
	}
	f.handlers[0].streams = []func(http.ResponseWriter, *http.Request){
		stream(func(w http.ResponseWriter) { writeNotices(w, 1, notice, notice) }),
		stream(func(w http.ResponseWriter) { fmt.Fprint(w, "id: e-3\nevent: resumed\ndata: {\"kind\":") }),
		stream(func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) }),
		stream(func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) }),
		stream(func(w http.ResponseWriter) { writeNotices(w, 3, notice) }),
		stream(func(w http.ResponseWriter) { writeNotices(w, 4, notice, notice) }),
	}
	r := run(t, env, "tail", "--address", f.addr, "--kind", "resumed,held", "--task", "t", "--type", "avatar", "--lines", "4")
	golden(t, "tail_reconnects", []string{"tail", "--lines", "4"}, r, f.addr, "ADDRESS")
	require.Equal(t, []string{"", "e-2", "e-2", "e-2", "e-2", "e-3"}, lastIDs)
	require.Equal(t, []time.Duration{1, 2, 4, 8, 1}, inSeconds(pauses))
	require.Equal(t, "GET /fotor_webhook/default/events/stream?kind=resumed%2Cheld&task=t&type=avatar", f.asked()[1])
}

func inSeconds(pauses []time.Duration) []time.Duration {
	for i := range pauses {
		pauses[i] /= time.Second
	}
	return pauses
}

// TestTailPauses has a Caddy that is gone after the first stream, and a user who waits for
// some time.
func TestTailPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := testEnvironment()
		var waited []time.Duration
		ctx, cancel := context.WithCancel(t.Context())
		env.pause = func(ctx context.Context, d time.Duration) error {
			if waited = append(waited, d); len(waited) == 8 {
				cancel()
			}
			return pause(ctx, d)
		}
		calls := 0
		env.transport = roundTrip(func(*http.Request) (*http.Response, error) {
			if calls++; calls > 1 {
				return nil, errors.New("connection refused")
			}
			return answering(""), nil
		})
		var stdout, stderr bytes.Buffer
		env.stdout, env.stderr = &output{w: &stdout}, &stderr
		s := tailSession(t, env)
		begun := time.Now()
		require.NoError(t, s.tail(ctx, nil, 0))
		require.Equal(t, []time.Duration{1, 2, 4, 8, 16, 30, 30, 30}, inSeconds(waited))
		require.Equal(t, 91*time.Second, time.Since(begun))
		require.Contains(t, stderr.String(), "connection refused: is Caddy running")
		require.Contains(t, stderr.String(), "trying again in 30s")
	})
}

func tailSession(t *testing.T, env *environment) *session {
	t.Helper()
	c, err := newClient("localhost:2019", env.transport)
	require.NoError(t, err)
	return &session{environment: env, client: c, handler: "default"}
}

// TestTailSilence has a stream that ends at once, and one that pings for ten minutes and
// is silent then, although its connection stays open. The pause after that is short again.
func TestTailSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := testEnvironment()
		env.now = time.Now
		calls := 0
		ctx, cancel := context.WithCancel(t.Context())
		env.transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			switch calls++; calls {
			case 1:
				return answering(""), nil
			case 3:
				cancel()
				return nil, errors.New("connection refused")
			}
			in, out := io.Pipe()
			go func() {
				for range 40 {
					time.Sleep(15 * time.Second) // synthetic
					if _, err := io.WriteString(out, ": ping\n\n"); err != nil {
						return
					}
				}
				<-r.Context().Done() // a connection ends with its request
				out.CloseWithError(r.Context().Err())
			}()
			return &http.Response{StatusCode: http.StatusOK, Body: in}, nil
		})
		var stdout, stderr bytes.Buffer
		env.stdout, env.stderr = &output{w: &stdout}, &stderr
		begun := time.Now()
		require.NoError(t, tailSession(t, env).tail(ctx, nil, 0))
		require.Equal(t, firstPause+10*time.Minute+silence+firstPause, time.Since(begun))
		require.Equal(t, "The stream ended; trying again in 1s\nThe stream ended: nothing came for 45s; trying again in 1s\n", stderr.String())
		require.Empty(t, stdout.String())
	})
}

// TestTailHandlerRemoved checks that tail ends if the handler disappears for good.
func TestTailHandlerRemoved(t *testing.T) {
	f, env := startFake(t, sampleHandler("default")), testEnvironment()
	env.pause = noPause
	f.handlers[0].streams = []func(http.ResponseWriter, *http.Request){
		func(http.ResponseWriter, *http.Request) { f.change(func() { f.handlers = nil }) },
	}
	r := run(t, env, "tail", "--address", f.addr)
	require.Equal(t, exitNotFound, r.code)
	require.Len(t, f.asked(), 2+maxNotFound)
	require.Contains(t, r.stderr, `no running fotor_webhook handler has the name "default"`)
}

// TestTailHandlerComesBack has reloads during each of which the handler is missing for
// almost too long.
func TestTailHandlerComesBack(t *testing.T) {
	f, env := startFake(t, sampleHandler("default")), testEnvironment()
	env.pause = noPause
	notice := func(w http.ResponseWriter, _ *http.Request) {
		writeNotices(w, 1, control.Notice{Kind: control.Resumed, At: testNow})
	}
	gone := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }
	streams := []func(http.ResponseWriter, *http.Request){notice}
	for range 2 {
		for range maxNotFound - 1 {
			streams = append(streams, gone)
		}
		streams = append(streams, notice)
	}
	f.change(func() { f.handlers[0].streams = streams })
	r := run(t, env, "tail", "--address", f.addr, "-n", "3")
	require.Zero(t, r.code, r.stderr)
}

// TestTailNobodyReads checks that tail ends when the reader of the output has gone, and
// does not ask for another stream.
func TestTailNobodyReads(t *testing.T) {
	f, env := startFake(t, sampleHandler("default")), testEnvironment()
	env.pause = noPause
	f.handlers[0].streams = append(oneNotice(t), oneNotice(t)...)
	var stderr bytes.Buffer
	env.stdout, env.stderr = &output{w: &failingWriter{err: errBrokenPipe}}, &stderr
	require.Equal(t, exitDone, runTo(t, env, "tail", "--address", f.addr))
	require.Len(t, f.asked(), 2, "the handlers and one stream")
	require.Empty(t, stderr.String())
}

func TestServerSentEvents(t *testing.T) {
	for name, c := range map[string]struct {
		stream string
		want   []string // name and data
		lastID string
	}{
		"line feeds":        {"event: a\ndata: 1\nid: x\n\nevent: b\ndata:2\n\n", []string{"a 1", "b 2"}, "x"},
		"carriage returns":  {"event: a\rdata: 1\rid: x\r\rdata: 2\r\r", []string{"a 1", "message 2"}, "x"},
		"both":              {"event: a\r\ndata: 1\r\nid: x\r\n\r\n", []string{"a 1"}, "x"},
		"several lines":     {"data: 1\ndata\ndata:  2\n\n", []string{"message 1\n\n 2"}, "before"},
		"comments":          {": ping\n\ndata: 1\n: ping\n\n", []string{"message 1"}, "before"},
		"no data":           {"event: a\nid: x\n\ndata: 1\n\n", []string{"message 1"}, "x"},
		"unknown field":     {"datum: 1\nretry: 100\nretry: soon\ndata: 2\n\n", []string{"message 2"}, "before"},
		"id alone":          {"data: 1\nid: x\n\n: ping\nid: y\n\n", []string{"message 1"}, "y"},
		"unfinished event":  {"data: 1\nid: x\n\ndata: 2\nid: y\n", []string{"message 1"}, "x"},
		"unfinished line":   {"data: 1\n\ndata: 2", []string{"message 1"}, "before"},
		"id is reset":       {"data: 1\nid\n\n", []string{"message 1"}, ""},
		"id with zero byte": {"data: 1\nid: a\x00b\n\n", []string{"message 1"}, "before"},
	} {
		t.Run(name, func(t *testing.T) {
			// byte by byte, as on a slow connection
			alive := 0
			r := newSSEReader(iotest.OneByteReader(strings.NewReader(c.stream)), "before", func() { alive++ })
			var got []string
			for {
				e, err := r.next()
				if errors.Is(err, io.EOF) {
					break
				}
				require.NoError(t, err)
				got = append(got, e.name+" "+string(e.data))
			}
			require.Equal(t, c.want, got)
			require.Equal(t, c.lastID, r.lastID)
			require.Positive(t, alive)
		})
	}
}

func TestServerSentEventTooLong(t *testing.T) {
	long := strings.Repeat("x", maxEventLine/2)
	for name, stream := range map[string]string{
		"line":  "data: " + long + long + "\n\n",
		"event": strings.Repeat("data: "+long+"\n", 3) + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newSSEReader(strings.NewReader(stream), "", func() {}).next()
			require.ErrorIs(t, err, errEventTooLong)
		})
	}
}

// TestLineEndsAtOnce checks that a line ends at a CR, without waiting for what follows.
func TestLineEndsAtOnce(t *testing.T) {
	in, out := io.Pipe()
	defer out.Close()
	go io.WriteString(out, "data: 1\r\n\r") //nolint:errcheck // the test would hang
	e, err := newSSEReader(in, "", func() {}).next()
	require.NoError(t, err)
	require.Equal(t, "1", string(e.data))
}
