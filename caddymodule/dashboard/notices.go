package dashboard

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// notice says what came of an action, on the page that is shown after it.
type notice struct {
	ID    string
	Class string // of a chip: isWell, isWarn or isBad
	Text  string
	At    time.Time

	// Link leads to more about it; nil if there is nothing more.
	Link *navigation

	// Again goes on with what is not done yet; nil if there is nothing left.
	Again *again

	// tried is the callback that it is about, if it is about one.
	tried *tried
}

// Role is how a screen reader tells it.
func (n *notice) Role() string {
	if n.Class == isBad {
		return "alert"
	}
	return "status"
}

// again is a form with one button.
type again struct {
	Action, Label string
	Fields        []field
}

// field is a field of a form that nobody sees.
type field struct{ Name, Value string }

// maxNotices bounds how many notices are remembered: the last ones.
const maxNotices = 64

// notices remembers what came of actions. The page that is shown after one has only the
// id of its notice in its address: so no link can make a page tell what has not happened.
type notices struct {
	mu   sync.Mutex
	all  map[string]*notice
	ring [maxNotices]string // their ids
	next int
}

// told are the notices of all dashboards.
var told = notices{all: make(map[string]*notice)}

// noticeParam is the parameter of a page with the id of a notice.
const noticeParam = "notice"

// add remembers a notice, and returns its id.
func (s *notices) add(n notice) string {
	n.ID, n.At = rand.Text(), time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, s.ring[s.next])
	s.all[n.ID], s.ring[s.next] = &n, n.ID
	s.next = (s.next + 1) % maxNotices
	return n.ID
}

// forgotten stands for a notice that is not known.
var forgotten = &notice{Class: isIdle, Text: "What came of the last action is not known here any more; Caddy's log says it."}

// take returns the notice that a request names, nil if it names none, and the request
// without that.
func (s *notices) take(r *http.Request) (*notice, *http.Request) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || !values.Has(noticeParam) {
		return nil, r
	}
	id := values.Get(noticeParam)
	values.Del(noticeParam)
	without := new(http.Request)
	*without = *r
	without.URL = &url.URL{Path: r.URL.Path, RawQuery: values.Encode()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.all[id]; n != nil {
		return n, without
	}
	return forgotten, without
}
