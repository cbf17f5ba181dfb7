package control_test

import (
	"context"
	"encoding/json"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// suspects is the quarantine of an inbox: callbacks, the last arrivals first.
type suspects struct {
	inbox.Inbox
	all []*inbox.Suspect
}

func (s *suspects) Suspects(_ context.Context, p inbox.Page) (page []*inbox.Suspect, next string, err error) {
	from, _ := strconv.Atoi(p.Cursor)
	to := min(from+p.Limit, len(s.all))
	if to < len(s.all) {
		next = strconv.Itoa(to)
	}
	return s.all[from:to], next, nil
}

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func suspect(id, count int64, status int, problems ...control.Problem) *inbox.Suspect {
	text, err := json.Marshal(problems)
	if err != nil {
		panic(err)
	}
	return &inbox.Suspect{
		ID: id, Count: count, Status: status, Problems: text,
		ReceivedAt: noon.Add(time.Duration(id) * time.Hour), Last: noon.Add(time.Duration(id)*time.Hour + time.Minute),
	}
}

// Callbacks are alike if their first problems differ in places and quoted texts only.
func TestQuarantineIsGroupedByWhatIsWrong(t *testing.T) {
	in := &suspects{all: []*inbox.Suspect{
		suspect(7, 1, 400, control.Problem{Detail: "unexpected end in the middle of a value at byte offset 17"}),
		suspect(6, 3, 422, control.Problem{Pointer: "/status", Detail: `must be 0, 1 or 2, not "done"`}),
		suspect(5, 1, 422, control.Problem{Pointer: "/avatarResult/12/images/3/url", Detail: "is required"}, control.Problem{Pointer: "/status"}),
		suspect(4, 2, 400, control.Problem{Detail: "unexpected end in the middle of a value at byte offset 4"}),
		suspect(3, 1, 415, control.Problem{Detail: "unexpected end in the middle of a value at byte offset 4"}),
		suspect(2, 4, 422, control.Problem{Pointer: "/status", Detail: `must be 0, 1 or 2, not "it \" said"`}),
		suspect(1, 1, 422, control.Problem{Pointer: "/avatarResult/0/images/0/url", Detail: "is required"}),
	}}
	got, err := control.GroupQuarantine(t.Context(), in, 500)
	require.NoError(t, err)
	require.Equal(t, int64(7), got.Looked)
	require.False(t, got.More)
	require.Len(t, got.Groups, 4)
	first := got.Groups[0]
	require.Equal(t, control.QuarantineGroup{
		Key: first.Key, Status: 422, Problem: control.Problem{Pointer: "/status", Detail: `must be 0, 1 or 2, not "done"`},
		Callbacks: 2, Arrivals: 7, Newest: 6, First: noon.Add(2 * time.Hour), Last: noon.Add(6*time.Hour + time.Minute),
	}, first)
	require.Equal(t, []int64{6, 7, 5, 3}, []int64{first.Newest, got.Groups[1].Newest, got.Groups[2].Newest, got.Groups[3].Newest})

	// each callback names its group
	list, err := control.ListQuarantine(t.Context(), in, inbox.Page{Limit: 100})
	require.NoError(t, err)
	members := make(map[string][]int64)
	for i := range list.Callbacks {
		members[list.Callbacks[i].GroupKey()] = append(members[list.Callbacks[i].GroupKey()], list.Callbacks[i].ID)
	}
	require.Len(t, members, 4)
	require.Equal(t, []int64{6, 2}, members[first.Key])
	require.Regexp(t, "^[0-9a-f]{16}$", first.Key)
}

// A large quarantine is looked at in part, and the answer says so.
func TestGroupsOfALargeQuarantineAreOfTheNewest(t *testing.T) {
	in := new(suspects)
	for id := int64(1000); id > 0; id-- {
		in.all = append(in.all, suspect(id, 1, 422))
	}
	got, err := control.GroupQuarantine(t.Context(), in, 250)
	require.NoError(t, err)
	require.LessOrEqual(t, got.Looked, int64(250)) // fewer if the machine is busy
	require.GreaterOrEqual(t, got.Looked, int64(100))
	require.True(t, got.More)
	require.Len(t, got.Groups, 1)
	require.Equal(t, int64(1000), got.Groups[0].Newest)
	require.Empty(t, got.Groups[0].Problem)
}
