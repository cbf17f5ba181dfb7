package nats

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/natstest"
)

func TestAnOutcomeIsOneEventWhicheverCaddyIsTold(t *testing.T) {
	url := serve(t).ClientURL()
	a, b := openWith(t, url), openWith(t, url)
	for round := range 30 {
		task := fmt.Sprint("task ", round)
		inboxtest.RaceOfOneOutcome(t, a, b, task, nil)
		inboxtest.RaceOfOneOutcome(t, b, a, task+" in progress", []*inbox.Event{
			inboxtest.NewEvent(task+" in progress", inbox.InProgress), inboxtest.NewEvent(task+" in progress", inbox.InProgress),
		})
	}
}

func TestEachOutcomeHasARevisionWhicheverCaddyIsTold(t *testing.T) {
	url := serve(t).ClientURL()
	a, b := openWith(t, url), openWith(t, url)
	for round := range 30 {
		inboxtest.RaceOfOutcomes(t, a, b, fmt.Sprint("task ", round))
	}
}

// Each Caddy asks the replica next to it, which may not have what the other one has stored.
func TestAnOutcomeIsOneEventInACluster(t *testing.T) {
	c := natstest.New(t, natstest.Config{Nodes: 3})
	a, b := clustered(t, c), clustered(t, c)
	for round := range 20 {
		task := fmt.Sprint("task ", round)
		inboxtest.RaceOfOneOutcome(t, a, b, task, nil)
		inboxtest.RaceOfOutcomes(t, b, a, task+" again")
	}
}

// While the notices of a task are stored, each behind the last one, its outcome comes.
func TestAnOutcomeIsOneEventAmongMany(t *testing.T) {
	url := serve(t).ClientURL()
	a, b := openWith(t, url), openWith(t, url)
	notices := make(chan error, 1)
	go func() {
		var errs []error
		for range 50 {
			_, err := a.Put(context.Background(), inboxtest.NewEvent("task", inbox.InProgress))
			errs = append(errs, err)
		}
		notices <- errors.Join(errs...)
	}()
	inboxtest.RaceOfOneOutcome(t, a, b, "task", nil)
	require.NoError(t, <-notices)
}

// The header is what Caddys of other releases read and write.
func TestTheHeadersOfOutcomesStay(t *testing.T) {
	s := openWith(t, serve(t).ClientURL())
	event := func(n int) *inbox.Event {
		return &inbox.Event{ID: inbox.NewID("task", fmt.Append(nil, n)), TaskID: "task", Type: "avatar", Status: inbox.Completed}
	}
	second := inboxtest.Tells(event(2), inbox.FromAPI, "two")
	second.Revision = 2
	inboxtest.Put(t, s, inboxtest.Tells(event(1), inbox.FromCallback, "one"), second, event(3))
	all, err := s.all(context.Background(), s.subjects.stream, s.subjects.allEvents())
	require.NoError(t, err)
	require.Len(t, all, 3)
	told := []string{
		"1-86f54ac3d51181e255b5aafd8ac62bd2-callback-6b86b273ff34fce19d6b804eff5a3f57",
		"2-d05224f7d4fe8dd5a26b6210909302ea-api-d4735e3a265e16eee03f59718b9b5d03",
	}
	for i, want := range []map[string]string{
		{headerOrigin: "", headerOutcome: told[0][:34], headerTold: ""},
		{headerOrigin: "api", headerOutcome: told[1][:34], headerTold: told[0]},
		{headerOrigin: "", headerOutcome: "", headerTold: told[0] + "," + told[1]},
	} {
		for name, value := range want {
			assert.Equal(t, value, all[i].header.Get(name), "%s of event %d", name, i)
		}
	}
}

func TestHeadersOfOutcomesThatAreNotOurs(t *testing.T) {
	id := inbox.NewID("task", nil)
	key := inbox.OutcomeKey{1}.String()
	for _, text := range []string{
		"", "1", "1-" + key, "0-" + key + "-api-" + id[keyLength:], "x-" + key + "-api-" + id[keyLength:], "1-" + key[1:] + "-api-" + id[keyLength:],
		"1-" + key + "-other-" + id[keyLength:], "1-" + key + "-api-" + id, "1-" + key + "-api-" + id[keyLength:] + ",",
	} {
		_, err := decodeTold(id, text)
		require.Error(t, err, text)
	}
	for name, text := range map[string]string{headerOrigin: "other", headerOutcome: "1-xyz", headerTold: ","} {
		require.Error(t, decodeOutcomes(&stored{Event: &inbox.Event{ID: id}}, map[string][]string{name: {text}}), name)
	}
}

// An event that was moved from another inbox keeps its revision, and is compared from
// then on.
func TestOutcomesAreMoved(t *testing.T) {
	s := openWith(t, serve(t).ClientURL())
	first := inboxtest.Tells(inboxtest.NewEvent("task", inbox.Completed), inbox.FromCallback, "one")
	first.Revision = 2 // the one before it was not kept
	for _, want := range []bool{false, true} {
		duplicate, err := s.Import(context.Background(), inboxtest.Record(first, inbox.Progress{}, nil))
		require.NoError(t, err)
		require.Equal(t, want, duplicate)
	}
	r, err := s.Get(context.Background(), first.ID)
	require.NoError(t, err)
	require.Equal(t, first, r.Event)

	same := inboxtest.Tells(inboxtest.NewEvent("task", inbox.Completed), inbox.FromAPI, "one")
	duplicate, err := s.Import(context.Background(), inboxtest.Record(same, inbox.Progress{}, nil))
	require.NoError(t, err)
	require.True(t, duplicate, "it was told here before")
	duplicateOf, err := s.Put(context.Background(), same)
	require.NoError(t, err)
	require.Equal(t, first.ID, duplicateOf)
	other := inboxtest.Tells(inboxtest.NewEvent("task", inbox.Completed), inbox.FromAPI, "two")
	_, err = s.Put(context.Background(), other)
	var wrong *inbox.RevisionError
	require.ErrorAs(t, err, &wrong)
	require.Equal(t, 3, wrong.Revision)
	other.Revision = 7
	duplicate, err = s.Import(context.Background(), inboxtest.Record(other, inbox.Progress{}, nil))
	require.NoError(t, err)
	require.False(t, duplicate)
}
