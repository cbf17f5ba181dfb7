package fotorapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/callback"
)

const (
	testKey  = "sk-4f0e/7+c2%b1=aa"
	testTask = "39371b3800cc4a7e9e24867b0dfdf25b"
	sample   = `{ "taskId":"` + testTask + `", "status":1,"type":"avatar","resultUrl":"", "n":1.0 }`
)

// served returns a client of a server with that handler, and without a limit that the test
// would wait for.
func served(t *testing.T, handler http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return newClient(t, Config{URL: server.URL})
}

func newClient(t *testing.T, c Config) *Client {
	t.Helper()
	if c.Key == "" {
		c.Key = testKey
	}
	if c.Transport == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		t.Cleanup(transport.CloseIdleConnections)
		c.Transport = transport
	}
	if c.Budget == nil {
		c.Budget = NewAdaptive(MaxRate)
	}
	client, err := New(c)
	require.NoError(t, err)
	return client
}

// answering answers everything with a status and a body.
func answering(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

func asError(t *testing.T, err error) *Error {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	require.True(t, ok, "%v", err)
	return e
}

func TestTaskIsReturnedAsItArrived(t *testing.T) {
	c := served(t, func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, http.MethodGet, r.Method)
		assert.Equal(t, "/v1/aiart/tasks/"+testTask, r.RequestURI)
		assert.Equal(t, "Bearer "+testKey, r.Header.Get("Authorization"))
		assert.Equal(t, "identity", r.Header.Get("Accept-Encoding"))
		assert.Equal(t, "application/json", r.Header.Get("Content-Type"))
		fmt.Fprint(w, "\n"+`{"msg":"success","code":"000","data":`+sample+`,"more":[1]}`+"\n")
	})
	answer, err := c.Task(t.Context(), testTask)
	require.NoError(t, err)
	require.True(t, bytes.Equal([]byte(sample), answer.Data), "%s", answer.Data)
	require.Positive(t, answer.Took)
	parsed, err := callback.Parse(answer.Data, new(callback.Rules))
	require.NoError(t, err)
	require.Equal(t, testTask, parsed.TaskID)
}

func TestNothingIsAskedAfterTheKeyWasRefused(t *testing.T) {
	var asked atomic.Int32
	var good atomic.Bool
	c := served(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		switch {
		case !good.Load():
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/v1/credits":
			fmt.Fprint(w, `{"code":"000","data":{"businessId":"b","total":100,"remaining":12.5}}`)
		default:
			fmt.Fprint(w, `{"code":"000","data":`+sample+`}`)
		}
	})
	require.False(t, c.Refused())
	waits := &counting{Budget: c.budget}
	c.budget = waits
	for range 5 {
		_, err := c.Task(t.Context(), testTask)
		require.Equal(t, Unauthorized, KindOf(err))
	}
	require.True(t, c.Refused())
	require.EqualValues(t, 1, asked.Load())
	require.EqualValues(t, 1, waits.n.Load(), "nor does anything wait for the budget")

	_, err := c.Check(t.Context())
	require.Equal(t, Unauthorized, KindOf(err))
	require.EqualValues(t, 2, asked.Load(), "a check asks")

	good.Store(true)
	_, err = c.Task(t.Context(), testTask)
	require.Equal(t, Unauthorized, KindOf(err))
	credits, err := c.Check(t.Context())
	require.NoError(t, err)
	require.Equal(t, Credits{BusinessID: "b", Total: "100", Remaining: "12.5"}, credits)
	require.False(t, c.Refused())
	_, err = c.Task(t.Context(), testTask)
	require.NoError(t, err)
}

// TestNothingIsAskedByWhoWaitedWhileTheKeyWasRefused has callers that wait for the budget
// when the first answer comes.
func TestNothingIsAskedByWhoWaitedWhileTheKeyWasRefused(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer server.Close()
	refusedFirst := make(chan struct{})
	c := newClient(t, Config{URL: server.URL, Budget: &gate{open: refusedFirst}})
	var callers sync.WaitGroup
	for range 20 {
		callers.Go(func() {
			_, err := c.Task(t.Context(), testTask)
			assert.Equal(t, Unauthorized, KindOf(err))
		})
	}
	callers.Wait()
	require.EqualValues(t, 1, asked.Load())
}

// TestAnswerOlderThanTheRefusalDoesNotEndIt has an answer arrive after the key was refused to
// a later question.
func TestAnswerOlderThanTheRefusalDoesNotEndIt(t *testing.T) {
	arrived, answer := make(chan struct{}), make(chan struct{})
	c := served(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/later") {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		close(arrived)
		<-answer
		fmt.Fprint(w, `{"code":"000","data":`+sample+`}`)
	})
	var first sync.WaitGroup
	first.Go(func() {
		_, err := c.Task(t.Context(), testTask)
		assert.NoError(t, err)
	})
	<-arrived
	_, err := c.Task(t.Context(), "later")
	require.Equal(t, Unauthorized, KindOf(err))
	close(answer)
	first.Wait()
	require.True(t, c.Refused())
}

// counting counts who waits for a budget.
type counting struct {
	Budget
	n atomic.Int32
}

func (c *counting) Wait(ctx context.Context) (func(error), error) {
	c.n.Add(1)
	return c.Budget.Wait(ctx)
}

// gate is a budget that lets one question pass, and the others after its answer.
type gate struct {
	taken atomic.Bool
	open  chan struct{}
}

func (g *gate) Rate() float64 { return 1 }

func (g *gate) Wait(context.Context) (func(error), error) {
	if g.taken.CompareAndSwap(false, true) {
		return func(error) { close(g.open) }, nil
	}
	<-g.open
	return func(error) {}, nil
}

func TestIdsAreEscaped(t *testing.T) {
	var got atomic.Value
	c := served(t, func(w http.ResponseWriter, r *http.Request) {
		got.Store(r.RequestURI)
		fmt.Fprint(w, `{"code":"000","data":{"taskId":`+strconv.Quote(strings.TrimPrefix(r.URL.Path, "/v1/aiart/tasks/"))+`}}`)
	})
	for id, want := range map[string]string{
		"a/b":                    "a%2Fb",
		"a%2fb":                  "a%252fb",
		"a b+c?d=e&f#g;h:i@j":    "a%20b%2Bc%3Fd%3De%26f%23g%3Bh%3Ai%40j",
		"line\r\nHost: evil":     "line%0D%0AHost%3A%20evil",
		"任务":                     "%E4%BB%BB%E5%8A%A1",
		"...":                    "...",
		"a..b":                   "a..b",
		"-._~":                   "-._~",
		"\x00":                   "%00",
		"//":                     "%2F%2F",
		strings.Repeat("a", 512): strings.Repeat("a", 512),
	} {
		_, err := c.Task(t.Context(), id)
		require.Equal(t, "/v1/aiart/tasks/"+want, got.Load())
		if id != "\x00" { // which Go quotes in another way than JSON
			require.NoError(t, err, id)
		}
	}
}

func TestIdsThatCannotBeAskedFor(t *testing.T) {
	c := served(t, func(http.ResponseWriter, *http.Request) { assert.Fail(t, "asked") })
	for id, want := range map[string]string{
		"":                        "it is empty",
		".":                       `it has "." or ".."`,
		"..":                      `it has "." or ".."`,
		"../credits":              `it has "." or ".."`,
		"a/../b":                  `it has "." or ".."`,
		`a\..\b`:                  `it has "." or ".."`,
		"a/.":                     `it has "." or ".."`,
		"\xff":                    "it is not UTF-8",
		strings.Repeat("a", 513):  "it has 513 bytes: expected at most 512",
		strings.Repeat("../", 99): `it has "." or ".."`,
	} {
		_, err := c.Task(t.Context(), id)
		require.Equal(t, Unaskable, KindOf(err), id)
		require.EqualError(t, err, "a task with this id cannot be asked for: "+want+map[bool]string{true: " where a path would"}[strings.Contains(want, "..")])
	}
}

func TestPathOfTheURLComesBeforeTheQuestion(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"code":"000","data":{"businessId":`+strconv.Quote(r.RequestURI)+`}}`)
	}))
	defer server.Close()
	for path, want := range map[string]string{"": "", "/": "", "/fotor/": "/fotor", "/a%2Fb//": "/a%2Fb", "/a b": "/a%20b"} {
		credits, err := newClient(t, Config{URL: server.URL + path}).Check(t.Context())
		require.NoError(t, err)
		require.Equal(t, want+"/v1/credits", credits.BusinessID)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var asked atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer elsewhere.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		c := served(t, func(w http.ResponseWriter, r *http.Request) {
			assert.Equal(t, "/v1/aiart/tasks/"+testTask, r.URL.Path)
			w.Header().Set("Location", elsewhere.URL+"/v1?key="+testKey)
			w.WriteHeader(status)
		})
		_, err := c.Task(t.Context(), testTask)
		require.Equal(t, Unavailable, KindOf(err))
		require.Contains(t, err.Error(), "to the host "+strings.TrimPrefix(elsewhere.URL, "http://")+", which is not followed")
	}
	require.Zero(t, asked.Load())
}

func TestContextThatEndsIsNoErrorOfFotor(t *testing.T) {
	arrived := make(chan struct{})
	c := served(t, func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	_, err := c.Task(ctx, testTask)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, Other, KindOf(err))
	_, err = c.Task(ctx, testTask)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "waiting until Fotor may be asked")
}

func TestHTTP2(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, 2, r.ProtoMajor)
		if r.RequestURI == "/v1/aiart/tasks/a%2Fb" {
			fmt.Fprint(w, `{"code":"000","data":{"taskId":"a/b"}}`)
			return
		}
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	c := newClient(t, Config{URL: server.URL, Transport: server.Client().Transport})
	_, err := c.Task(t.Context(), "a/b")
	require.NoError(t, err)
	_, err = c.Task(t.Context(), testTask)
	require.Equal(t, Unavailable, KindOf(err))
	require.Contains(t, err.Error(), "the answer broke off")
}
