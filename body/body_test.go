package body

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const largest = 1 << 20

// reading serves requests: it reads their bodies, and answers with the length.
func reading(t *testing.T, times Times, start func(*httptest.Server)) *httptest.Server {
	t.Helper()
	room := new(Room)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := Read(w, r, Options{Room: room, Wait: time.Minute, Max: largest, Times: times, Since: time.Now()})
		defer b.Free()
		if err != nil {
			_, _ = fmt.Fprint(w, err)
			return
		}
		if wait, err := time.ParseDuration(r.Header.Get("X-Wait")); err == nil {
			time.Sleep(wait)
		}
		if err := r.Context().Err(); err != nil {
			_, _ = fmt.Fprint(w, err)
			return
		}
		_, _ = fmt.Fprint(w, len(b.Data()))
	}))
	start(s)
	t.Cleanup(s.Close)
	return s
}

func http1(s *httptest.Server) { s.Start() }

func http2(s *httptest.Server) {
	s.EnableHTTP2 = true
	s.StartTLS()
}

func TestBodiesOfEverySize(t *testing.T) {
	for protocol, start := range map[string]func(*httptest.Server){"HTTP/1.1": http1, "HTTP/2.0": http2} {
		s := reading(t, Times{Whole: time.Hour, Idle: time.Hour}, start)
		for _, size := range []int{0, 1, firstRoom - 1, firstRoom, firstRoom + 1, 300_000, largest} {
			for _, length := range []int64{-1, int64(size)} {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, strings.NewReader(strings.Repeat("x", size)))
				require.NoError(t, err)
				r.ContentLength = length
				response, err := s.Client().Do(r)
				require.NoError(t, err)
				text, err := io.ReadAll(response.Body)
				require.NoError(t, err)
				require.NoError(t, response.Body.Close())
				assert.Equal(t, protocol, response.Proto)
				assert.Equal(t, fmt.Sprint(size), string(text))
			}
		}
	}
}

// A deadline that stayed after the body would end the request, and with HTTP/1.1
// the next one on its connection.
func TestDeadlineEndsWithTheBody(t *testing.T) {
	s := reading(t, Times{Whole: 3 * time.Second, Idle: 3 * time.Second}, http1)
	for range 2 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, strings.NewReader("x"))
		require.NoError(t, err)
		r.Header.Set("X-Wait", "3500ms")
		response, err := s.Client().Do(r)
		require.NoError(t, err)
		text, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		assert.Equal(t, "1", string(text))
	}
}

// The bytes of a body that somebody may still read stay as they are, whatever comes after it.
func TestKeptBytesAreNotReused(t *testing.T) {
	room := new(Room)
	read := func(text string) *Body {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(text))
		b, err := Read(httptest.NewRecorder(), r, Options{Room: room, Wait: time.Minute, Max: largest, Times: DefaultTimes, Since: time.Now()})
		require.NoError(t, err)
		return b
	}
	for range 50 {
		kept := read("kept")
		data := kept.Data()
		kept.Keep()
		kept.Free()
		other := read("else")
		require.Equal(t, "kept", string(data))
		other.Free()
	}
	reading, used := room.Load()
	require.Zero(t, reading)
	require.Zero(t, used, "kept bytes take no room")
}

// Not every server reports a body that is shorter than declared.
func TestBodyShorterThanDeclared(t *testing.T) {
	room := new(Room)
	read := func(sent, declared int64, header string) error {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(strings.Repeat("x", int(sent))))
		r.ContentLength = declared
		if header != "" {
			r.Header.Set("Content-Length", header)
		}
		b, err := Read(httptest.NewRecorder(), r, Options{Room: room, Wait: time.Minute, Max: largest, Times: DefaultTimes, Since: time.Now()})
		b.Free()
		return err
	}
	for _, size := range []int64{1, firstRoom, firstRoom + 1, largest} {
		require.ErrorIs(t, read(size-1, size, ""), io.ErrUnexpectedEOF)
		require.NoError(t, read(size, size, ""))
		require.NoError(t, read(size, -1, ""))
	}
	require.ErrorIs(t, read(largest, largest+1, ""), io.ErrUnexpectedEOF)
	require.ErrorIs(t, read(0, 0, "50"), io.ErrUnexpectedEOF, "as HTTP/2 has it if there is no body")
	require.NoError(t, read(0, 0, "0"))
	require.NoError(t, read(0, 0, ""))
	require.NoError(t, read(3, 3, "50"), "another handler has replaced the body")
	_, used := room.Load()
	require.Zero(t, used)
}
