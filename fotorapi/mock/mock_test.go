package mock

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/fotor-webhook/caddy-fotor-webhook/callback"
	"github.com/fotor-webhook/caddy-fotor-webhook/fotorapi"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testKey = "key-of-tests"

// receiver gets callbacks.
type receiver struct {
	mu     sync.Mutex
	bodies [][]byte
	status int
}

func (g *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.bodies = append(g.bodies, body)
	if g.status != 0 {
		w.WriteHeader(g.status)
	}
}

// play starts a server with a receiver of its callbacks, if it sends some.
func play(t *testing.T, c Config) (*Server, *receiver, string) {
	t.Helper()
	g := new(receiver)
	if c.Callback == "" {
		receives := httptest.NewServer(g)
		t.Cleanup(receives.Close)
		c.Callback = receives.URL + "/fotor/callback"
	}
	s, err := New(c)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	served := httptest.NewServer(s)
	t.Cleanup(served.Close)
	return s, g, served.URL
}

func client(t *testing.T, target string) *fotorapi.Client {
	t.Helper()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	c, err := fotorapi.New(fotorapi.Config{URL: target, Key: testKey, Transport: transport, Budget: fotorapi.NewAdaptive(fotorapi.MaxRate), Timeout: 5 * time.Second})
	require.NoError(t, err)
	return c
}

// submit submits a task over HTTP.
func submit(t *testing.T, target, product, key string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target+"/v1/aiart/"+product, strings.NewReader(`{"prompt":"a cat"}`))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, strings.TrimSpace(string(body))
}

// drain waits until all callbacks have been sent.
func drain(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, s.Drain(ctx))
}

func TestTaskIsSubmittedCalledAndAskedFor(t *testing.T) {
	s, g, target := play(t, Config{Key: testKey, Delay: time.Millisecond})
	status, answer := submit(t, target, "avatar", testKey)
	require.Equal(t, 200, status)
	var submitted struct {
		Code, Msg string
		Data      struct{ TaskID string }
	}
	require.NoError(t, json.Unmarshal([]byte(answer), &submitted))
	id := submitted.Data.TaskID
	require.Equal(t, `{"code":"000","msg":"success","data":{"taskId":"`+id+`"}}`, answer)
	drain(t, s)

	require.Len(t, g.bodies, 2)
	var statuses []inbox.Status
	for _, body := range g.bodies {
		c, err := callback.Parse(body, new(callback.Rules))
		require.NoError(t, err, "%s", body)
		require.Equal(t, id, c.TaskID)
		statuses = append(statuses, c.Status)
	}
	require.ElementsMatch(t, []inbox.Status{inbox.InProgress, inbox.Completed}, statuses)

	got, err := client(t, target).Task(t.Context(), id)
	require.NoError(t, err)
	truth, known := s.Outcome(id)
	require.True(t, known)
	require.Equal(t, Completed, truth.Status)
	final, err := truth.Final.JSON()
	require.NoError(t, err)
	require.Equal(t, string(final), string(got.Data), "the API and the truth agree") //nolint:testifylint // byte for byte
	require.Contains(t, [][]byte{g.bodies[0], g.bodies[1]}, final)

	credits, err := client(t, target).Check(t.Context())
	require.NoError(t, err)
	require.Equal(t, json.Number("9999"), credits.Remaining)
	_, known = s.Outcome("unknown")
	require.False(t, known)
}

// TestSharesAndTruth has many tasks: what was sent is what the truth says, and the shares are
// about those of the config.
func TestSharesAndTruth(t *testing.T) {
	const tasks = 1000
	s, g, _ := play(t, Config{Delay: 200 * time.Millisecond, Lose: 0.1, Duplicate: 0.05, Fail: 0.2, Forge: 0.04, S3: true, Seed: 7})
	products := []string{"avatar", "text2img", "videoEnhancer", "ecommercelistingset"}
	for i := range tasks {
		require.NotEmpty(t, s.Submit(products[i%len(products)]))
	}
	drain(t, s)

	told := make(map[string]int) // final callbacks by what they say, but for the time
	forgedKnown, forgedUnknown, updated := 0, 0, 0
	for _, body := range g.bodies {
		c, err := callback.Parse(body, new(callback.Rules))
		require.NoError(t, err, "%s", body)
		if c.Status == inbox.InProgress {
			continue
		}
		truth, known := s.Outcome(c.TaskID)
		var o Object
		require.NoError(t, json.Unmarshal(body, &o))
		if known {
			if o.UpdateTime != truth.Final.UpdateTime {
				updated++
				o.UpdateTime = truth.Final.UpdateTime
			}
			if same, err := o.JSON(); assert.NoError(t, err) && string(same) == asJSON(t, truth.Final) {
				told[c.TaskID]++
				continue
			}
			require.True(t, truth.Forged)
			forgedKnown++
		} else {
			forgedUnknown++
		}
		require.NotContains(t, string(body), "s3://")
	}
	lost, duplicated, failed, forged := 0, 0, 0, 0
	for _, o := range s.Outcomes() {
		lost += count(o.Lost)
		duplicated += count(o.Duplicated)
		failed += count(o.Final.Status == Failed)
		forged += count(o.Forged)
		require.Equal(t, 1+count(o.Duplicated)-count(o.Lost), told[o.TaskID])
	}
	require.Equal(t, forged, forgedKnown)
	require.Positive(t, forgedUnknown)
	require.InDelta(t, duplicated/2, updated, float64(duplicated)/4)
	for _, share := range []struct {
		n    int
		want float64
	}{{lost, 0.1}, {duplicated, 0.045}, {failed, 0.2}, {forgedKnown + forgedUnknown, 0.04}} {
		require.InEpsilon(t, share.want*tasks, share.n, 0.35)
	}
	counts := s.Counts()
	require.EqualValues(t, tasks, counts.Submitted)
	require.EqualValues(t, failed, counts.Failed)
	require.EqualValues(t, duplicated, counts.Repeated)
	require.EqualValues(t, forgedKnown+forgedUnknown, counts.Forged)
	require.EqualValues(t, len(g.bodies), counts.Callbacks[200])
	require.EqualValues(t, 2*tasks+duplicated+int(counts.Forged)-len(g.bodies), counts.Lost)
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

func asJSON(t *testing.T, o *Object) string {
	t.Helper()
	body, err := o.JSON()
	require.NoError(t, err)
	return string(body)
}

func TestSeedDecidesWhatHappens(t *testing.T) {
	fates := func(seed uint64) (all []string) {
		s, err := New(Config{Seed: seed, Lose: 0.5, Delay: time.Hour})
		require.NoError(t, err)
		defer s.Close()
		for range 50 {
			o, _ := s.Outcome(s.Submit("avatar"))
			all = append(all, o.TaskID+o.Final.AvatarResult[0].Images[0].ID+map[bool]string{true: " lost"}[o.Lost])
		}
		return all
	}
	three, again, four := fates(3), fates(3), fates(4)
	require.Equal(t, three, again)
	require.NotEqual(t, three, four)
	chance, another := fates(0), fates(0)
	require.NotEqual(t, chance, another)
}

func TestS3URLsAreThoseOfAvatars(t *testing.T) {
	s, _, _ := play(t, Config{S3: true, Delay: time.Hour})
	for product, want := range map[string]string{"avatar": "s3://img-pub-fotor/aigc/", "text2img": "https://static.fotor.com.cn/"} {
		o, _ := s.Outcome(s.Submit(product))
		require.Contains(t, asJSON(t, o.Final), `"`+want)
	}
}

func TestAnswersToCallbacksAreCounted(t *testing.T) {
	var entries []Entry
	away := httptest.NewServer(nil)
	away.Close()
	s, _, _ := play(t, Config{Callback: away.URL, Delay: -1, Lose: 0.5, Seed: 1, Log: func(e Entry) { entries = append(entries, e) }})
	for range 20 {
		s.Submit("avatar")
	}
	drain(t, s)
	counts := s.Counts()
	require.Positive(t, counts.Lost)
	require.EqualValues(t, 40, counts.Lost+counts.Callbacks[0])
	kinds := make(map[EntryKind]int)
	for _, e := range entries {
		kinds[e.Kind]++
		if e.Kind == Called {
			require.Contains(t, e.Error, "connection refused")
			require.NotContains(t, e.Error, "http://")
		}
	}
	require.Equal(t, map[EntryKind]int{Submitted: 20, Lost: int(counts.Lost), Called: int(counts.Callbacks[0])}, kinds)

	refusing, g, _ := play(t, Config{Delay: -1, Prepare: func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }})
	refusing.Submit("avatar")
	drain(t, refusing)
	require.Equal(t, map[int]int64{400: 2}, refusing.Counts().Callbacks)
	require.Empty(t, g.bodies)
}

func TestCloseEndsCallbacksUnderWay(t *testing.T) {
	arrived := make(chan struct{}, 1)
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	defer hangs.Close()
	s, err := New(Config{Callback: hangs.URL, Delay: -1, NoProgress: true})
	require.NoError(t, err)
	s.Submit("avatar")
	<-arrived
	s.Close()
	require.Zero(t, s.Counts().Callbacks[0])
}

// TestNothingIsToldAfterClose has submissions go on after the end. The race detector sees
// whether the log is written meanwhile.
func TestNothingIsToldAfterClose(t *testing.T) {
	var entries []Entry
	s, err := New(Config{Log: func(e Entry) { entries = append(entries, e) }})
	require.NoError(t, err)
	begun := make(chan struct{}, 1)
	var submitting sync.WaitGroup
	for range 4 {
		submitting.Go(func() {
			for range 200 {
				s.Submit("avatar")
				select {
				case begun <- struct{}{}:
				default:
				}
			}
		})
	}
	<-begun
	s.Close()
	told := len(entries)
	submitting.Wait()
	require.Len(t, entries, told)
	require.Positive(t, told)
}

func TestConfigsThatAreRefused(t *testing.T) {
	for want, c := range map[string]Config{
		"Lose is 1.5: expected a share from 0 to 1":             {Lose: 1.5},
		"TooOften is -1: expected a share from 0 to 1":          {TooOften: -1},
		"Limit is -1: expected 0 to 1000000 questions a second": {Limit: -1},
		"Callback is no URL":                                    {Callback: "localhost:8080"},
	} {
		_, err := New(c)
		require.ErrorContains(t, err, want)
	}
}

// TestForgedURLsHaveTheirHost checks that no URL of a forged callback is one of Fotor's.
func TestForgedURLsHaveTheirHost(t *testing.T) {
	s, g, _ := play(t, Config{Forge: 1, Delay: -1, NoProgress: true, Lose: 1})
	for _, product := range []string{"avatar", "text2img", "videoEnhancer", "ecommercelistingset"} {
		for range 10 {
			s.Submit(product)
		}
	}
	drain(t, s)
	require.Len(t, g.bodies, 40)
	for _, body := range g.bodies {
		var o Object
		require.NoError(t, json.Unmarshal(body, &o))
		changeURLs(&o, func(u *url.URL) { assert.Equal(t, ForgedHost, u.Host) }, false)
		require.NotContains(t, string(body), "fotor.com")
	}
}
