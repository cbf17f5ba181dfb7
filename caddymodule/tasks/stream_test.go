package tasks

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// longest is how long a test waits for what must happen.
const longest = 20 * time.Second

func receive[T any](t *testing.T, from <-chan T) (value T) {
	t.Helper()
	select {
	case value = <-from:
	case <-time.After(longest):
		require.Fail(t, "it did not happen")
	}
	return value
}

func (s *stand) post(ctx context.Context, http2 bool, body io.Reader) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://caddy/", body)
	require.NoError(s.t, err)
	return s.client(watched, http2).Do(r)
}

// pieces answers piece by piece, the next one when the client has the one before.
func pieces(media string, each ...string) (http.HandlerFunc, chan bool) {
	next := make(chan bool)
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", media)
		for _, piece := range each {
			_, _ = io.WriteString(w, piece)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-next:
			case <-r.Context().Done():
				return
			}
		}
	}, next
}

func TestOtherAnswersStream(t *testing.T) {
	for name, c := range map[string]struct {
		media string
		each  []string
	}{
		"events":        {"text/event-stream", []string{"data: 1\n\n", "data: 2\n\n", "data: 3\n\n"}},
		"lines":         {"application/x-ndjson", []string{"{}\n", "[]\n"}},
		"JSON too long": {"application/json", []string{filled(maxAnswer + 1), " ", "\n"}},
	} {
		for version, http2 := range map[string]bool{"HTTP 1": false, "HTTP 2": true} {
			t.Run(name+" "+version, func(t *testing.T) {
				s := newStand(t)
				answer, next := pieces(c.media, c.each...)
				s.answers(answer)
				resp, err := s.post(t.Context(), http2, nil)
				require.NoError(t, err)
				defer resp.Body.Close()
				for _, piece := range c.each {
					got := make([]byte, len(piece))
					_, err = io.ReadFull(resp.Body, got)
					require.NoError(t, err)
					require.Equal(t, piece, string(got))
					next <- true
				}
				rest, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				require.Empty(t, rest)
				require.Empty(t, s.gateway.tracked())
			})
		}
	}
}

// A request goes on as it comes: the upstream has its beginning before the rest is sent.
func TestRequestsStream(t *testing.T) {
	const size = 100 << 20
	for version, http2 := range map[string]bool{"HTTP 1": false, "HTTP 2": true} {
		t.Run(version, func(t *testing.T) {
			s := newStand(t)
			began, took := make(chan bool), make(chan int64, 1)
			s.answers(func(w http.ResponseWriter, r *http.Request) {
				first := make([]byte, 1)
				_, err := io.ReadFull(r.Body, first)
				began <- err == nil
				n, _ := io.Copy(io.Discard, r.Body)
				took <- n + 1
				answerJSON(documented("t1"))(w, r)
			})
			body, send := io.Pipe()
			go func() {
				chunk := make([]byte, 1<<16)
				_, err := send.Write(chunk)
				if err == nil && !<-began {
					err = errors.New("the upstream has read nothing")
				}
				for left := size - len(chunk); left > 0 && err == nil; left -= len(chunk) {
					_, err = send.Write(chunk)
				}
				_ = send.CloseWithError(err)
			}()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			resp, err := s.post(t.Context(), http2, body)
			require.NoError(t, err)
			defer resp.Body.Close()
			runtime.ReadMemStats(&after)
			require.EqualValues(t, size, receive(t, took))
			allocated := (after.TotalAlloc - before.TotalAlloc) >> 20
			t.Logf("%d MiB allocated by client, Caddy and upstream", allocated)
			require.Less(t, allocated, uint64(size>>20)/2, "all that was ever allocated")
			require.Equal(t, []string{"t1"}, s.gateway.tracked())
		})
	}
}

// The client sends its body when it is told to.
func TestExpectContinue(t *testing.T) {
	s := newStand(t)
	s.answers(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		answerJSON(documented(string(body)))(w, r)
	})
	for _, server := range []string{plain, watched} {
		conn := s.dial(server)
		in := bufio.NewReader(conn)
		_, err := io.WriteString(conn, "POST /yes HTTP/1.1\r\nHost: caddy\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
		require.NoError(t, err)
		resp, err := http.ReadResponse(in, nil)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, 100, resp.StatusCode)
		_, err = io.WriteString(conn, "t1")
		require.NoError(t, err)
		for resp.StatusCode == 100 { // Caddy passes that of the upstream on, too
			resp, err = http.ReadResponse(in, nil)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
		}
		require.Equal(t, 200, resp.StatusCode)
	}
	require.Equal(t, []string{"t1"}, s.gateway.tracked())
}

func TestUpgrades(t *testing.T) {
	s := newStand(t)
	s.answers(func(w http.ResponseWriter, _ *http.Request) {
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_, _ = io.Copy(conn, buffered)
	})
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		for _, server := range []string{plain, watched} {
			conn := s.dial(server)
			_, err := fmt.Fprintf(conn, "%s / HTTP/1.1\r\nHost: caddy\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", method)
			require.NoError(t, err)
			in := bufio.NewReader(conn)
			resp, err := http.ReadResponse(in, nil)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, 101, resp.StatusCode, "%s %s", method, server)
			for _, word := range []string{"one\n", "two\n"} {
				_, err = io.WriteString(conn, word)
				require.NoError(t, err)
				echo, err := in.ReadString('\n')
				require.NoError(t, err)
				require.Equal(t, word, echo)
			}
			require.NoError(t, conn.Close())
		}
	}
}

// What Fotor answers is learnt, whether or not the client is still there.
func TestTheClientHangsUp(t *testing.T) {
	for version, http2 := range map[string]bool{"HTTP 1": false, "HTTP 2": true} {
		t.Run(version, func(t *testing.T) {
			s := newStand(t)
			asked, gone := make(chan bool), make(chan bool)
			s.answers(func(w http.ResponseWriter, r *http.Request) {
				asked <- true
				<-gone
				select {
				case <-r.Context().Done(): // as without fotor_tasks
				case <-time.After(200 * time.Millisecond):
				}
				answerJSON(documented("t1"))(w, r)
			})
			ctx, hangUp := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() {
				resp, err := s.post(ctx, http2, nil)
				if err == nil {
					_ = resp.Body.Close()
				}
				ended <- err
			}()
			receive(t, asked)
			hangUp()
			require.ErrorIs(t, receive(t, ended), context.Canceled)
			gone <- true
			require.Equal(t, "t1", receive(t, s.gateway.got))
		})
	}
}

// change changes a variable for a test.
func change[T any](t *testing.T, what *T, to T) {
	before := *what
	*what = to
	t.Cleanup(func() { *what = before })
}

// An exchange whose client has gone ends: after a while if it may bring a task, or else at
// once.
func TestAnExchangeWithoutItsClientEnds(t *testing.T) {
	for name, c := range map[string]struct {
		linger time.Duration
		first  string // piece of the answer
	}{
		"without an answer": {time.Millisecond, ""},
		"streaming":         {time.Hour, "data: 1\n\n"},
	} {
		t.Run(name, func(t *testing.T) {
			change(t, &linger, c.linger)
			s := newStand(t)
			asked, ended := make(chan bool, 1), make(chan bool, 1)
			s.answers(func(w http.ResponseWriter, r *http.Request) {
				if c.first != "" {
					w.Header().Set("Content-Type", "text/event-stream")
					_, _ = io.WriteString(w, c.first)
					_ = http.NewResponseController(w).Flush()
				}
				asked <- true
				<-r.Context().Done()
				ended <- true
			})
			conn := s.dial(watched)
			_, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: caddy\r\nContent-Length: 0\r\n\r\n")
			require.NoError(t, err)
			receive(t, asked)
			if c.first != "" {
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				require.NoError(t, err)
				defer resp.Body.Close()
				got := make([]byte, len(c.first))
				_, err = io.ReadFull(resp.Body, got)
				require.NoError(t, err)
			}
			require.NoError(t, conn.Close())
			receive(t, ended)
		})
	}
}

// The answer has its task stored before the client gets any of it.
func TestATaskIsStoredBeforeItsAnswerGoesOn(t *testing.T) {
	s := newStand(t)
	answered := make(chan bool)
	s.gateway.track = func(ctx context.Context) error {
		select {
		case <-answered:
			return errors.New("it was answered before")
		case <-time.After(100 * time.Millisecond):
			return ctx.Err()
		}
	}
	s.answers(answerJSON(documented("t1")))
	resp, err := s.post(t.Context(), false, strings.NewReader("{}"))
	require.NoError(t, err)
	close(answered)
	defer resp.Body.Close()
	require.Equal(t, []string{"t1"}, s.gateway.tracked())
}
