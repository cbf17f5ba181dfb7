package main

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// message is a message of the stream of events, with the answers to it.
type message struct {
	jetstream.Msg // other methods are never called

	id, data string
	answers  []string
	fail     error
}

func (m *message) Subject() string { return "FOTOR_WEBHOOK.event.0123456789abcdef." + m.id }
func (m *message) Data() []byte    { return []byte(m.data) }

func (m *message) Ack() error {
	m.answers = append(m.answers, "ack")
	return m.fail
}

func (m *message) Term() error {
	m.answers = append(m.answers, "term")
	return nil
}

func (m *message) NakWithDelay(delay time.Duration) error {
	m.answers = append(m.answers, "nak "+delay.String())
	return nil
}

const body = `{"id":"e1","taskId":"t1","type":"avatar","status":"completed"}`

func TestEachEventIsWorkedOnOnce(t *testing.T) {
	var worked []event
	c := newConsumer(func(e event) error {
		worked = append(worked, e)
		return nil
	})
	m := &message{id: "e1", data: body}
	require.NoError(t, c.take(m))
	require.NoError(t, c.take(m))
	require.Equal(t, []string{"ack", "ack"}, m.answers)
	require.Equal(t, []event{{ID: "e1", TaskID: "t1", Type: "avatar", Status: "completed"}}, worked)
}

func TestFailedWorkComesAgain(t *testing.T) {
	fail := errors.New("the database is down")
	c := newConsumer(func(event) error { return fail })
	m := &message{id: "e1", data: body}
	require.NoError(t, c.take(m))
	fail = nil
	require.NoError(t, c.take(m))
	require.Equal(t, []string{"nak 5s", "ack"}, m.answers)
}

func TestALostAcknowledgementIsNotWorkedOnTwice(t *testing.T) {
	worked := 0
	c := newConsumer(func(event) error {
		worked++
		return nil
	})
	m := &message{id: "e1", data: body, fail: errors.New("connection closed")}
	require.Error(t, c.take(m))
	m.fail = nil
	require.NoError(t, c.take(m))
	require.Equal(t, 1, worked)
}

func TestWhatIsNoEventIsNotReadAgain(t *testing.T) {
	c := newConsumer(func(event) error { return errors.New("it must not be called") })
	m := &message{id: "e1", data: "{"}
	require.NoError(t, c.take(m))
	require.Equal(t, []string{"term"}, m.answers)
}
