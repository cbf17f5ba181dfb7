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

// source is one of the consumers from which events come: one for new events, one for
// events that come again, which are retries and replays. The default destination has two
// of those: for events that go there alone, and for others.
type source struct {
	again    bool
	at       place // of records
	stream   string
	consumer string
	sub      *nats.Subscription
	reply    string // reply subject of requests, to which their number is appended

	requests int
	asked    int       // events requested but not received
	until    time.Time // when the server drops the request
	newest   uint64    // highest sequence received
	pending  uint64    // events that the server had to hand out after that one
	heard    time.Time // when it was received
	queue    []*candidate
}

// candidate is an event handed out to this inbox that may be leased.
type candidate struct {
	msg    *nats.Msg
	again  bool
	at     place // of the record, if it comes again
	early  bool  // it was not handed to this inbox, but is leased out of turn
	id     string
	seq    uint64 // of the message, which is the event or a record
	times  uint64 // how often it was handed out
	event  *stored
	lookAt time.Time // when to look at it again, if it waits for another event
	waited int

	missing time.Time // since when the leader does not know of the event; zero if it does
}

// handed identifies a message that was handed out.
type handed struct {
	at  place // zero for an event's own message
	seq uint64
}

func (c *candidate) handed() handed { return handed{c.at, c.seq} }

// listen subscribes to the answers to requests.
func (q *queue) listen(src *source, c consumed) error {
	l := &q.leaser
	l.mu.Lock()
	defer l.mu.Unlock()
	if src.sub != nil {
		return nil
	}
	src.stream, src.consumer, src.reply = c.stream, c.consumer, q.conn.NewInbox()
	src.at = place{}
	for _, at := range []place{q.subjects.home(), q.place()} {
		if c.stream == at.stream {
			src.at = at
		}
	}
	sub, err := q.conn.Subscribe(src.reply+".*", func(m *nats.Msg) { q.arrived(src, m) })
	if err != nil {
		return err
	}
	src.sub = sub
	return sub.SetPendingLimits(-1, -1)
}

// listenAll subscribes to the answers of all consumers of the queue.
func (q *queue) listenAll() error {
	sources := q.leaser.all()
	for i, c := range q.consumed() {
		if err := q.listen(sources[i], c); err != nil {
			return err
		}
	}
	return nil
}

// request requests up to n events from a consumer, unless some are here or a
// request is under way.
func (q *queue) request(src *source, n int) error {
	l := &q.leaser
	expires := q.options.limits.expires
	l.mu.Lock()
	now := time.Now()
	if src.sub == nil || len(src.queue) > 0 || src.asked > 0 && now.Before(src.until) || !q.link.isUp() {
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
	return q.conn.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+src.stream+"."+src.consumer, reply, body)
}

// forgetRequests makes the next Lease send requests again, because the server
// has changed.
func (l *leaser) forgetRequests() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, src := range l.all() {
		src.asked = 0
	}
	l.signal()
}

// arrived receives an event, or the end of a request.
func (q *queue) arrived(src *source, m *nats.Msg) {
	l := &q.leaser
	l.mu.Lock()
	defer l.mu.Unlock()
	if m.Reply == "" {
		q.requestEnded(src, m)
		return
	}
	src.asked--
	meta, err := m.Metadata()
	if err != nil {
		q.log.Error("NATS sent an event without its number", zap.Error(err))
		return
	}
	c := &candidate{msg: m, again: src.again, at: src.at, id: idOf(m.Subject), seq: meta.Sequence.Stream, times: meta.NumDelivered}
	if !src.again {
		c.event, err = decodeEvent(message{m.Subject, c.seq, m.Header, m.Data})
	}
	if err != nil || len(c.id) != inbox.IDLength {
		q.log.Error("a message in the stream is no event, it is left alone", zap.Uint64("message", c.seq), zap.Error(err))
		_ = m.Term()
		return
	}
	if !src.again && c.times == 1 && c.seq <= src.newest {
		// New events come in order, so the consumer has been replaced.
		l.recheckNew.Store(true)
	}
	src.newest, src.pending, src.heard = max(src.newest, c.seq), meta.NumPending, time.Now()
	if !src.again && !c.event.goesTo(q.name) {
		q.passOver(c)
		return
	}
	same := func(o *candidate) bool { return o.handed() == c.handed() }
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
	if l.looking[c.handed()] != nil {
		return // as above
	}
	src.queue = append(src.queue, c)
	l.signal()
}

// passOver is done with the message of an event that does not go to the destination. That
// one without any destination is skipped is written down when it is put, or by the queue
// of the default destination after a crash.
func (q *queue) passOver(c *candidate) {
	q.leaser.signal()
	if len(c.event.to) > 0 || !q.isDefault() {
		_ = c.msg.Ack()
		return
	}
	q.work.Go(func() {
		ctx, cancel := q.bound(q.life)
		defer cancel()
		if q.conclude(ctx, c.event) == nil {
			_ = c.msg.Ack()
		}
	})
}

// requestEnded records that a request ended early or expired. If there is no
// consumer to answer it, the next request is sent after a pause.
func (q *queue) requestEnded(src *source, m *nats.Msg) {
	status := m.Header.Get("Status")
	number := src.requests
	if status == "100" || !strings.HasSuffix(m.Subject, "."+strconv.Itoa(number)) {
		return
	}
	l := &q.leaser
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
		q.wakeMaintenance()
	}
	src.asked, src.until = max(1, src.asked), time.Now().Add(q.options.limits.expires)
	time.AfterFunc(retryWait, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if src.requests == number {
			src.asked = 0
			l.signal()
		}
	})
}
