package inbox_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// Ids are stored in files and by upstreams: they must never change.
func TestIDsNeverChange(t *testing.T) {
	const task = "39371b3800cc4a7e9e24867b0dfdf25b"
	require.Equal(t, uint64(0xd43f7d0975a061bf), inbox.TaskKey(task))
	require.Equal(t, "d43f7d0975a061bf587fa9763e3d74ded3b64a843905f554", inbox.NewID(task, []byte(`{"status":1}`)))
}

func TestIDBeginsWithItsTasksKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		task := rapid.String().Draw(t, "task")
		id := inbox.NewID(task, []byte(rapid.String().Draw(t, "content")))
		require.Len(t, id, inbox.IDLength)
		require.Equal(t, fmt.Sprintf("%016x", inbox.TaskKey(task)), id[:16])
		raw, err := inbox.ParseID(id)
		require.NoError(t, err)
		require.Equal(t, id, hex.EncodeToString(raw[:]))
	})
}

func TestIDTellsTaskAndContentApart(t *testing.T) {
	ids := make(map[string]bool)
	for _, task := range []string{"", "a", "b", "ab"} {
		for _, content := range []string{"", "a", "b", "ab"} {
			ids[inbox.NewID(task, []byte(content))] = true
		}
	}
	require.Len(t, ids, 16)
}

func TestParseIDRefuses(t *testing.T) {
	good := inbox.NewID("task", nil)
	for _, c := range []struct{ id, want string }{
		{"", "event id has 0 characters; it must have 48 hexadecimal digits"},
		{good[1:], "event id has 47 characters"},
		{good + "0", "event id has 49 characters"},
		{"g" + good[1:], `event id has 'g' at position 0; it must be 48 lower-case hexadecimal digits`},
		{good[:47] + "A", `event id has 'A' at position 47`},
		{strings.Repeat("é", 24), `event id has 'Ã' at position 0`},
	} {
		_, err := inbox.ParseID(c.id)
		require.ErrorContains(t, err, c.want, c.id)
	}
}

func TestNames(t *testing.T) {
	require.Equal(t, []string{"in_progress", "completed", "failed", "lost", "unconfirmed", "unknown"},
		[]string{inbox.InProgress.String(), inbox.Completed.String(), inbox.Failed.String(), inbox.Lost.String(), inbox.Unconfirmed.String(), inbox.Status(5).String()})
	require.False(t, inbox.InProgress.Final())
	require.True(t, inbox.Completed.Final())
	require.True(t, inbox.Failed.Final())
	var names []string
	for _, s := range inbox.States {
		names = append(names, s.String())
	}
	require.Equal(t, []string{"pending", "delivered", "superseded", "dead", "skipped"}, names)
	require.Equal(t, "unknown", inbox.State(9).String())
}

// Two contents have the ids that each has by itself, wherever they begin to differ.
func TestIDsOfTwoContents(t *testing.T) {
	long := bytes.Repeat([]byte("0123456789"), 30)
	for _, a := range [][]byte{nil, long[:10], long[:64], long[:65], long[:128], long} {
		for at := 0; at <= len(a); at += 16 {
			for _, b := range [][]byte{a, a[:at], append(bytes.Clone(a[:at]), "other"...), append(bytes.Clone(a[:at]), long...)} {
				idA, idB := inbox.KeyedIDs(7, a, b)
				require.Equal(t, inbox.KeyedID(7, a), idA)
				require.Equal(t, inbox.KeyedID(7, b), idB)
			}
		}
	}
}
