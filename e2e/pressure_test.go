package e2e

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/internal/natstest"
)

// scene is one upstream in some kind of trouble, with a gateway of its own.
type scene struct {
	name    string
	options string
	play    func(s *stage)
}

// Retries and concurrency are the defaults: what is tried is how a gateway does that
// nobody has tuned.
func TestPressure(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		dir := t.TempDir()
		inbox := func(scene string) string { return "inbox sqlite " + filepath.Join(dir, scene) }
		g := newGateway(t)
		t.Cleanup(g.Stop)
		playAll(t, g, func(config string) { require.NoError(t, g.Load(config)) }, inbox, troubles(t, 6000))
	})
	t.Run("nats", func(t *testing.T) {
		servers := natstest.New(t, natstest.Config{Nodes: 1, Separate: true, MaxPayload: 4 << 20})
		nats := &cluster{Cluster: servers, t: t, replicas: 1}
		inbox := func(scene string) string { return nats.For(t, scene).Inbox(patient) }
		// The servers share the machine, and have enough to do with these.
		some := []string{"300-always-500", "300-always-timeout", "one-of-two-refuses", "one-asks-for-an-hour", "outage-refused", "after-an-outage"}
		scenes := slices.DeleteFunc(troubles(t, 4000), func(s scene) bool { return !slices.Contains(some, s.name) })
		require.Len(t, scenes, len(some))
		g := newGateway(t)
		playAll(t, g, func(config string) { g.Run(config) }, inbox, scenes)
	})
}

// troubles are the scenes of an upstream in trouble, one of them with so many events that
// came during an outage.
func troubles(t *testing.T, pending int) []scene {
	t.Helper()
	return slices.Concat(poisonScenes(t), routeScenes(t), outageScenes(t), backlogScenes(t, pending))
}

// playAll plays scenes at once, since they wait far more than they compute. They
// share one Caddy, which start starts. Each has an inbox of its own.
func playAll(t *testing.T, g *gateway, start func(config string), inbox func(scene string) (option string), scenes []scene) {
	t.Helper()
	var site strings.Builder
	for _, s := range scenes {
		fmt.Fprintf(&site, "fotor_webhook /%s {\nname %[1]s\nallow 127.0.0.1\n%s\n%s\n}\n", s.name, inbox(s.name), s.options)
	}
	start(g.Globals(silent) + g.Site(site.String()))
	t.Run("scenes", func(t *testing.T) {
		for _, s := range scenes {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				s.play(&stage{gateway: &gateway{t: t, Port: g.Port, Admin: g.Admin, path: s.name}, name: s.name})
			})
		}
	})
}

// stage is the gateway of one scene.
type stage struct {
	*gateway
	name  string
	tasks int
}

// posted is an event that was accepted.
type posted struct {
	id string
	at time.Time
}

// post sends the callback of a new task of that type.
func (s *stage) post(kind string) posted {
	s.t.Helper()
	s.tasks++
	body := fmt.Sprintf(`{"taskId":"%s-%d","status":1,"type":%q}`, s.name, s.tasks, kind)
	return posted{s.Accept(body), time.Now()}
}

// pile sends callbacks of n tasks of that type as fast as it can.
func (s *stage) pile(n int, kind string) {
	s.t.Helper()
	const senders = 16
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: senders}} // thousands of connections take their time
	defer client.CloseIdleConnections()
	send := func(i int) error {
		body := fmt.Sprintf(`{"taskId":"%s-pile-%d","status":1,"type":%q}`, s.name, i, kind)
		response, err := client.Do(newRequest(s.t, s.URL(), strings.NewReader(body)))
		if err != nil {
			return err
		}
		answer, err := io.ReadAll(response.Body)
		if response.StatusCode != http.StatusOK {
			err = fmt.Errorf("answered %d: %s", response.StatusCode, answer)
		}
		return errors.Join(err, response.Body.Close())
	}
	var wg sync.WaitGroup
	errs := make([]error, senders)
	for sender := range senders {
		wg.Go(func() {
			for i := sender; i < n && errs[sender] == nil; i += senders {
				errs[sender] = send(i)
			}
		})
	}
	wg.Wait()
	require.NoError(s.t, errors.Join(errs...))
}

// steadily sends so many callbacks a second of each type. It returns those of the
// first one, once they have had time to arrive.
func (s *stage) steadily(perSecond int, lasts time.Duration, kinds ...string) (first []posted) {
	s.t.Helper()
	began := time.Now()
	for n := 0; time.Since(began) < lasts; n++ {
		time.Sleep(time.Until(began.Add(time.Duration(n) * time.Second / time.Duration(perSecond))))
		for i, kind := range kinds {
			if event := s.post(kind); i == 0 {
				first = append(first, event)
			}
		}
	}
	return first
}

// The bounds of what must not be delayed. They leave room for a machine that is busy
// with other tests: a second and ten seconds are what the simulation in package
// dispatch holds.
const (
	usualDelay = 5 * time.Second
	worstDelay = 40 * time.Second
)

// requireSoon waits until an upstream has got the events, and holds how long that
// took against the bounds.
func (s *stage) requireSoon(events []posted, up *upstream) {
	s.t.Helper()
	require.NotEmpty(s.t, events)
	var late []time.Duration
	var missing int
	for deadline := time.Now().Add(worstDelay); ; time.Sleep(100 * time.Millisecond) {
		if late, missing = lateness(events, up.Deliveries()); missing == 0 || time.Now().After(deadline) {
			break
		}
	}
	median, most := late[len(late)/2], late[len(late)-1]
	s.t.Logf("%d events: median %s, most %s, %d missing", len(events), median.Round(time.Millisecond), most.Round(time.Millisecond), missing)
	assert.Less(s.t, median, usualDelay, "the usual delay")
	assert.Less(s.t, most, worstDelay, "the longest delay")
	assert.Zero(s.t, missing, "events that were not delivered")
}

// lateness returns how long after they were accepted the events arrived, in
// ascending order. Those that have not are as late as they are old.
func lateness(events []posted, deliveries []delivery) (late []time.Duration, missing int) {
	arrived := make(map[string]time.Time)
	for _, d := range slices.Backward(deliveries) {
		arrived[d.Event.ID] = d.At
	}
	for _, e := range events {
		at, ok := arrived[e.id]
		if !ok {
			missing++
			at = time.Now()
		}
		late = append(late, max(0, at.Sub(e.at)))
	}
	slices.Sort(late)
	return late, missing
}

// byType answers as the type of the event says; those without an answer are taken.
func byType(answers map[string]func(http.ResponseWriter, delivery)) func(http.ResponseWriter, delivery) {
	return func(w http.ResponseWriter, d delivery) {
		if answer := answers[d.Event.Type]; answer != nil {
			answer(w, d)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

// neverAnswers answers nothing until the test ends. The upstream must be there
// before: it would wait for the answers.
func neverAnswers(t *testing.T) func(http.ResponseWriter, delivery) {
	t.Helper()
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	return func(http.ResponseWriter, delivery) { <-release }
}

// steadyAddress returns an address on which nothing listens, and which the system
// gives to no connection while nothing does: its port is below those.
func steadyAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(10_000)) //nolint:gosec // it need not be secret
		if listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address); err == nil {
			require.NoError(t, listener.Close())
			return address
		}
	}
	require.FailNow(t, "no free port")
	return ""
}
