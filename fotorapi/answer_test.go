package fotorapi

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWhatAnAnswerMeans(t *testing.T) {
	success := func(data string) string { return `{"code":"000","msg":"success","data":` + data + `}` }
	for name, c := range map[string]struct {
		status int
		body   string
		kind   Kind
		code   string
		text   string
	}{
		"key refused":           {401, `{"code":"401","msg":"bad key"}`, Unauthorized, "401", "refuses the key (HTTP 401)"},
		"key refused, no body":  {401, "", Unauthorized, "", "refuses the key"},
		"too often":             {429, `{"code":"429","msg":"slow down"}`, TooOften, "429", "HTTP 429) (slow down)"},
		"too often in HTML":     {429, "<html>", TooOften, "", "HTTP 429"},
		"unknown error":         {200, `{"code":"999","msg":"unknown error"}`, NotKnown, "999", `the code "999" (unknown error): expected "000"`},
		"unknown error, data":   {200, `{"code":"999","data":` + sample + `}`, NotKnown, "999", `"999"`},
		"unknown code":          {200, `{"code":"510","msg":null,"data":null}`, NotKnown, "510", `"510"`},
		"code is a number":      {200, `{"code":999,"msg":7,"data":{}}`, NotKnown, "999", "(7)"},
		"code is an object":     {200, `{"code":{"a":1}}`, NotKnown, "", `the code ""`},
		"no code":               {200, `{"data":` + sample + `}`, NotKnown, "", `the code ""`},
		"other case":            {200, `{"Code":"000","Data":` + sample + `}`, NotKnown, "", `the code ""`},
		"no data":               {200, `{"code":"000","msg":"success"}`, NotKnown, "", "no data"},
		"null":                  {200, success("null"), NotKnown, "", "no data"},
		"empty object":          {200, success("{ }"), NotKnown, "", "no data"},
		"empty array":           {200, success("[\n]"), NotKnown, "", "no data"},
		"empty string":          {200, success(`""`), NotKnown, "", "no data"},
		"no task id":            {200, success(`{"status":1}`), NotKnown, "", "no taskId"},
		"task id null":          {200, success(`{"taskId":null}`), NotKnown, "", "no taskId"},
		"task id empty":         {200, success(`{"taskId":""}`), NotKnown, "", "no taskId"},
		"task id a number":      {200, success(`{"taskId":39371}`), Unusable, "", "not a string"},
		"data an array":         {200, success(`[` + sample + `]`), Unusable, "", "expected a JSON object"},
		"data a number":         {200, success(`7`), Unusable, "", "expected a JSON object"},
		"another task":          {200, success(`{"taskId":"other","status":1}`), OtherTask, "", `the task "other", which was not asked for`},
		"another case of it":    {200, success(strings.ToUpper(sample)), NotKnown, "", "no taskId"},
		"part of the id":        {200, success(`{"taskId":"` + testTask[:31] + `"}`), OtherTask, "", testTask[:31]},
		"a name twice":          {200, `{"code":"000","code":"000","data":` + sample + `}`, Unusable, "", "not JSON"},
		"a name twice in data":  {200, success(`{"taskId":"x","taskId":"` + testTask + `"}`), Unusable, "", "not JSON"},
		"not UTF-8":             {200, success("{\"taskId\":\"\xff\"}"), Unusable, "", "not JSON"},
		"HTML":                  {200, "<!doctype html>", Unusable, "", "not JSON of Fotor's API (byte 1)"},
		"empty":                 {200, "", Unusable, "", "not JSON"},
		"cut off":               {200, `{"code":"000","data":{"taskId":"`, Unusable, "", "not JSON"},
		"an array":              {200, "[]", Unusable, "", "not JSON"},
		"more after it":         {200, success(sample) + "{}", Unusable, "", "not JSON"},
		"nested deep":           {200, success(strings.Repeat("[", 400_000)), Unusable, "", "not JSON"},
		"bad request":           {400, `{"code":"400","msg":"task not exist"}`, NotKnown, "400", "HTTP 400 (task not exist)"},
		"not found":             {404, "404 page not found", NotKnown, "", "HTTP 404"},
		"gone":                  {410, "", NotKnown, "", "HTTP 410"},
		"forbidden":             {403, "", Unavailable, "", "HTTP 403: expected 200"},
		"proxy wants a login":   {407, "", Unavailable, "", "HTTP 407"},
		"error":                 {500, `{"code":"500","msg":"\u001b[31moh\nno"}`, Unavailable, "500", `HTTP 500 (\x1b[31moh no)`},
		"bad gateway":           {502, strings.Repeat("x", 1<<20), Unavailable, "", "HTTP 502"},
		"created":               {201, success(sample), Unavailable, "", "HTTP 201"},
		"no content":            {204, "", Unavailable, "", "HTTP 204"},
		"not modified":          {304, "", Unavailable, "", "redirect (HTTP 304)"},
		"a long message is cut": {500, `{"msg":"` + strings.Repeat("€", 5000) + `"}`, Unavailable, "", "…"},
	} {
		t.Run(name, func(t *testing.T) {
			answer, err := served(t, answering(c.status, c.body)).Task(t.Context(), testTask)
			require.Empty(t, answer)
			e := asError(t, err)
			require.Equal(t, c.kind, e.Kind, err)
			require.Equal(t, c.status, e.Status)
			require.Equal(t, c.code, e.Code)
			require.Contains(t, err.Error(), c.text)
			require.Less(t, len(err.Error()), 400)
			require.Positive(t, e.Took)
			require.Equal(t, c.kind, KindOf(fmt.Errorf("asking: %w", err)))
		})
	}
}

func TestRetryAfterIsReadAndCapped(t *testing.T) {
	for value, want := range map[string]time.Duration{"": 0, "7": 7 * time.Second, "soon": 0, "99999999": MaxRetryAfter} {
		for _, status := range []int{429, 503} {
			c := served(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", value)
				w.WriteHeader(status)
			})
			_, err := c.Task(t.Context(), testTask)
			require.Equal(t, want, RetryAfterOf(err))
		}
	}
	require.Zero(t, RetryAfterOf(context.Canceled))
	require.Equal(t, Other, KindOf(nil))
}

func TestCheckDoesNotTakeAMissingTaskForAnAnswer(t *testing.T) {
	for body, want := range map[string]Kind{
		`{"code":"999"}`:                         Unavailable,
		`{"code":"000"}`:                         Unusable,
		`{"code":"000","data":[1]}`:              Unusable,
		`{"code":"000","data":{"total":"many"}}`: Unusable,
	} {
		_, err := served(t, answering(200, body)).Check(t.Context())
		require.Equal(t, want, KindOf(err), body)
	}
	_, err := served(t, answering(404, "")).Check(t.Context())
	require.Equal(t, Unavailable, KindOf(err))
}

func TestLongAnswersAreNotRead(t *testing.T) {
	for name, length := range map[string]string{"with a length": strconv.Itoa(10 << 20), "in chunks": ""} {
		t.Run(name, func(t *testing.T) {
			sent := make(chan int, 1)
			c := served(t, func(w http.ResponseWriter, _ *http.Request) {
				if length != "" {
					w.Header().Set("Content-Length", length)
				}
				total, part := 0, []byte(strings.Repeat(" ", 64<<10))
				for total < 10<<20 {
					n, err := w.Write(part)
					if total += n; err != nil {
						break
					}
				}
				sent <- total
			})
			_, err := c.Task(t.Context(), testTask)
			require.Equal(t, Unusable, KindOf(err))
			require.Contains(t, err.Error(), "longer than 1048576 bytes")
			require.Less(t, <-sent, 10<<20, "the connection was closed")
		})
	}
	fits := `{"code":"000","data":` + sample + `}`
	_, err := served(t, answering(200, fits+strings.Repeat(" ", MaxAnswer-len(fits)))).Task(t.Context(), testTask)
	require.NoError(t, err)
}

func TestCompressedAnswersAreNotRead(t *testing.T) {
	c := served(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		packed := gzip.NewWriter(w)
		fmt.Fprint(packed, `{"code":"000","data":`+sample+`}`)
		packed.Close()
	})
	_, err := c.Task(t.Context(), testTask)
	require.Equal(t, Unusable, KindOf(err))
	require.Contains(t, err.Error(), `content encoding "gzip": expected none`)
}

func TestAnswersThatDoNotComeInTime(t *testing.T) {
	for name, c := range map[string]struct {
		before string
		want   string
	}{
		"nothing":     {"", "asking Fotor: there was no answer within 30ms"},
		"half a body": {"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "asking Fotor: the answer was not complete within 30ms"},
		"half a head": {"HTTP/1.1 200 OK\r\nContent", "asking Fotor: there was no answer within 30ms"},
	} {
		t.Run(name, func(t *testing.T) {
			client := newClient(t, Config{URL: rawServer(t, c.before, false), Timeout: 30 * time.Millisecond})
			_, err := client.Task(t.Context(), testTask)
			require.Equal(t, Unavailable, KindOf(err))
			require.EqualError(t, err, c.want)
		})
	}
}

func TestAnswersThatBreakOff(t *testing.T) {
	for _, before := range []string{
		"", "HTTP/1.1 200 O", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"cod\r\n", "220 smtp.test ESMTP\r\n",
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 11<<20) + "\r\n\r\n",
	} {
		_, err := newClient(t, Config{URL: rawServer(t, before, true)}).Task(t.Context(), testTask)
		require.Equal(t, Unavailable, KindOf(err), before)
		require.Less(t, len(err.Error()), 400)
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	_, err = newClient(t, Config{URL: "http://" + listener.Addr().String()}).Task(t.Context(), testTask)
	require.Equal(t, Unavailable, KindOf(err))
	require.Contains(t, err.Error(), "there was no answer: dial tcp")
}

// rawServer answers every connection with those bytes, and then closes it or waits.
func rawServer(t *testing.T, answer string, closes bool) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var connections sync.WaitGroup
	done := make(chan struct{})
	connections.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Go(func() {
				defer conn.Close()
				_, _ = conn.Read(make([]byte, 4096))
				_, _ = io.WriteString(conn, answer)
				if !closes {
					<-done
				}
			})
		}
	})
	t.Cleanup(func() {
		close(done)
		listener.Close()
		connections.Wait()
	})
	return "http://" + listener.Addr().String()
}
