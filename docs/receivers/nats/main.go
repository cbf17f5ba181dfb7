// Command nats is a service that reads the gateway's events straight from
// JetStream, beside or in place of deliveries over HTTP: it has a durable consumer
// of its own on the stream of events, drops repeats, does the work and only then
// acknowledges.
//
//	NATS_URL=nats://localhost:4222 go run ./docs/receivers/nats
//
// NATS_STREAM names the stream if it is not FOTOR_WEBHOOK, NATS_CREDS a file with
// credentials.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"log"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// event is the part of the gateway's event that this service needs. The headers of the
// message have the task, type and status too, which helps to filter.
type event struct {
	ID     string `json:"id"`
	TaskID string `json:"taskId"`
	Type   string `json:"type"`
	Status string `json:"status"` // "in_progress", "completed" or "failed"
}

// consumer handles the messages of one durable consumer, one after the other.
type consumer struct {
	// work does the service's work for an event. If it fails, the message is delivered
	// again.
	work func(event) error

	// done has the ids of events whose work is done. A real service keeps them in its
	// database, in a table whose primary key is the id, and adds one in the same
	// transaction as the work.
	mu   sync.Mutex
	done map[string]bool
}

func newConsumer(work func(event) error) *consumer {
	return &consumer{work: work, done: make(map[string]bool)}
}

// retryAfter is how long a message waits after its work has failed.
const retryAfter = 5 * time.Second

// take handles one message. The subject ends in the event's id, so a repeat is recognized
// before its body is read.
func (c *consumer) take(m jetstream.Msg) error {
	id := m.Subject()[strings.LastIndexByte(m.Subject(), '.')+1:]
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done[id] {
		return m.Ack()
	}
	var e event
	if err := json.Unmarshal(m.Data(), &e); err != nil {
		log.Printf("event %s: %v", id, err)
		return m.Term() // another delivery would not make it an event
	}
	if err := c.work(e); err != nil {
		log.Printf("event %s: %v", id, err)
		return m.NakWithDelay(retryAfter)
	}
	c.done[id] = true
	return m.Ack()
}

func run(ctx context.Context) error {
	var options []nats.Option
	if creds := os.Getenv("NATS_CREDS"); creds != "" {
		options = append(options, nats.UserCredentials(creds))
	}
	options = append(options, nats.MaxReconnects(-1))
	conn, err := nats.Connect(cmp.Or(os.Getenv("NATS_URL"), nats.DefaultURL), options...)
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	stream := cmp.Or(os.Getenv("NATS_STREAM"), "FOTOR_WEBHOOK")
	durable, err := js.CreateOrUpdateConsumer(ctx, stream, jetstream.ConsumerConfig{
		Durable:       "my-service", // a name of your own: "gateway" is the gateway's
		FilterSubject: stream + ".event.>",
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       time.Minute,
		MaxAckPending: 1, // one at a time, in order; more is faster and out of order
	})
	if err != nil {
		return err
	}
	c := newConsumer(func(e event) error {
		log.Printf("task %s (%s) is %s", e.TaskID, e.Type, e.Status)
		return nil
	})
	running, err := durable.Consume(func(m jetstream.Msg) {
		if err := c.take(m); err != nil {
			log.Printf("acknowledging %s: %v", m.Subject(), err) // it is delivered again
		}
	})
	if err != nil {
		return err
	}
	<-ctx.Done()
	running.Drain()
	<-running.Closed()
	return nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}
