package nats

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// requestEnded notes that a request for events has ended without them. If it
// did because there is nobody to ask, the next one is made after a pause.
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
		// Should the consumer be another one soon, it begins at the first event.
		l.careful.Store(true)
	}
	if m.Header.Get("Description") == "Consumer Deleted" {
		s.wakeChores()
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

// revive makes the consumers anew if somebody has removed them. It never makes
// a stream anew: somebody may be about to restore it.
func (s *store) revive(ctx context.Context) error {
	for _, c := range s.consumed() {
		there, err := s.js.Consumer(ctx, c.stream, consumer)
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			s.log.Error("somebody has removed the consumer, it is made anew", zap.String("of", c.stream))
			err = s.consumer(ctx, c.stream, c.filter)
		} else if err == nil && c.stream == s.subjects.stream {
			s.leaser.careful.Store(there.CachedInfo().Config.Metadata[checked] != "")
		}
		if err != nil {
			return err
		}
	}
	return nil
}
