package nats

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// source is one of the two consumers from which events come: one for new
// events, one for events that come again, which are retries and replays.
type source struct {
	again  bool
	stream string
	sub    *nats.Subscription
	reply  string // reply subject of requests, to which their number is appended

	requests int
	asked    int       // events requested but not received
	until    time.Time // when the server drops the request
	newest   uint64    // highest sequence received
	pending  uint64    // events that the server had to hand out after that one
	at       time.Time // when it was received
	queue    []*candidate
}

// candidate is an event handed out to this inbox that may be leased.
type candidate struct {
	msg    *nats.Msg
	again  bool
	early  bool // it was not handed to this inbox, but is leased out of turn
	id     string
	seq    uint64 // of the message, which is the event or a record
	times  uint64 // how often it was handed out
	event  *stored
	lookAt time.Time // when to look at it again, if it waits for another event
	waited int

	missing time.Time // since when the leader does not know of the event; zero if it does
}

// listen subscribes to the answers to requests.
func (s *store) listen(src *source, stream string) (err error) {
	if src.sub != nil {
		return nil
	}
	src.stream, src.reply = stream, s.conn.NewInbox()
	src.sub, err = s.conn.Subscribe(src.reply+".*", func(m *nats.Msg) { s.arrived(src, m) })
	if err != nil {
		return err
	}
	return src.sub.SetPendingLimits(-1, -1)
}

// request requests up to n events from a consumer, unless some are here or a
// request is under way.
func (s *store) request(src *source, n int) error {
	l := &s.leaser
	expires := s.options.limits.expires
	l.mu.Lock()
	now := time.Now()
	if len(src.queue) > 0 || src.asked > 0 && now.Before(src.until) || !s.link.isUp() {
		l.mu.Unlock()
		return nil
	}
	src.requests++
	src.asked, src.until = n, now.Add(expires+expires/4)
	reply := src.reply + "." + strconv.Itoa(src.requests)
	l.mu.Unlock()
	body, err := json.Marshal(map[string]int64{"batch": int64(n), "expires": int64(expires)})
	if err != nil {
		return err
	}
	return s.conn.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+src.stream+"."+consumerName, reply, body)
}

// forgetRequests makes the next Lease send requests again, because the server
// has changed.
func (l *leaser) forgetRequests() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fresh.asked, l.again.asked = 0, 0
	l.signal()
}

// arrived receives an event, or the end of a request.
func (s *store) arrived(src *source, m *nats.Msg) {
	l := &s.leaser
	l.mu.Lock()
	defer l.mu.Unlock()
	if m.Reply == "" {
		s.requestEnded(src, m)
		return
	}
	src.asked--
	meta, err := m.Metadata()
	if err != nil {
		s.log.Error("NATS sent an event without its number", zap.Error(err))
		return
	}
	c := &candidate{msg: m, again: src.again, id: idOf(m.Subject), seq: meta.Sequence.Stream, times: meta.NumDelivered}
	if !src.again {
		c.event, err = decodeEvent(message{m.Subject, c.seq, m.Header, m.Data})
	}
	if err != nil || len(c.id) != inbox.IDLength {
		s.log.Error("a message in the stream is no event, it is left alone", zap.Uint64("message", c.seq), zap.Error(err))
		_ = m.Term()
		return
	}
	if !src.again && c.times == 1 && c.seq <= src.newest {
		// New events come in order, so the consumer has been replaced.
		l.recheckNew.Store(true)
	}
	src.newest, src.pending, src.at = max(src.newest, c.seq), meta.NumPending, time.Now()
	same := func(o *candidate) bool { return o.seq == c.seq && o.again == c.again }
	for _, list := range [][]*candidate{src.queue, l.parked} {
		if i := slices.IndexFunc(list, same); i >= 0 {
			list[i].msg, list[i].times = m, c.times
			return
		}
	}
	if h := l.byID[c.id]; h != nil && same(h.candidate) {
		h.msg = m // it was handed out again because this inbox was slow
		return
	}
	src.queue = append(src.queue, c)
	l.signal()
}

// requestEnded records that a request ended early or expired. If there is no
// consumer to answer it, the next request is sent after a pause.
func (s *store) requestEnded(src *source, m *nats.Msg) {
	status := m.Header.Get("Status")
	number := src.requests
	if status == "100" || !strings.HasSuffix(m.Subject, "."+strconv.Itoa(number)) {
		return
	}
	l := &s.leaser
	if status == "404" || status == "408" {
		src.asked = 0
		l.signal()
		return
	}
	if !src.again {
		// If the consumer was removed, its successor begins at the first event.
		l.recheckNew.Store(true)
	}
	if m.Header.Get("Description") == "Consumer Deleted" {
		s.wakeMaintenance()
	}
	src.asked, src.until = max(1, src.asked), time.Now().Add(s.options.limits.expires)
	time.AfterFunc(retryWait, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if src.requests == number {
			src.asked = 0
			l.signal()
		}
	})
}
