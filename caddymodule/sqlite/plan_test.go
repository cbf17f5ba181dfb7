package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// planOf returns the steps of a query.
func planOf(t *testing.T, s *store, query string) (plan []string) {
	t.Helper()
	require.NoError(t, s.read(context.Background(), func(reader *conn) error {
		return reader.query("EXPLAIN QUERY PLAN "+query, func(row []driver.Value) error {
			plan = append(plan, text(row[3]))
			return nil
		}, make([]driver.Value, parameters(query))...)
	}))
	require.NotEmpty(t, plan)
	return plan
}

// parameters returns the number of a query's parameters, which may be numbered.
func parameters(query string) int {
	for n := 9; n > 0; n-- {
		if strings.Contains(query, fmt.Sprint("?", n)) {
			return n
		}
	}
	return strings.Count(query, "?")
}

// Without the index that it was made for, a query would read everything that
// was ever delivered.
func TestQueriesUseTheirIndexes(t *testing.T) {
	s := openTest(t)
	queuesOf(t, s, "other")
	for name, c := range map[string]struct{ query, index string }{
		"ready":        {readyRows, "delivery_pending"},
		"retries":      {dueRetries, "delivery_due"},
		"last retry":   {lastDue, "delivery_due"},
		"oldest":       {oldestWithRow, "delivery_pending"},
		"dead":         {newestFirst.dead, "delivery_dead"},
		"dead, oldest": {oldestFirst.dead, "delivery_dead"},
	} {
		for _, q := range s.queues.list() {
			t.Run(name+", "+q.name, func(t *testing.T) {
				index := c.index
				if !q.isDefault() {
					index += "_1"
				}
				plan := planOf(t, s, q.sql(c.query))
				for _, step := range plan {
					require.NotContains(t, step, "TEMP B-TREE")
					if strings.Contains(step, " delivery") {
						require.True(t, strings.HasSuffix(strings.Split(step, " (")[0], "USING COVERING INDEX "+index), step)
					}
				}
				require.Contains(t, strings.Join(plan, "\n"), index)
			})
		}
	}
}

// What is read in order of arrival is read by its number, and not sorted.
func TestQueriesGoByNumber(t *testing.T) {
	s := openTest(t)
	queuesOf(t, s, "other")
	other := s.queues.find("other")
	for name, c := range map[string]struct {
		query string
		want  []string
	}{
		"fresh":               {s.usual.sql(freshOfAll.lease), []string{"SEARCH e", "SEARCH d", "SEARCH t"}},
		"oldest fresh":        {s.usual.sql(freshOfAll.oldest), []string{"SEARCH e", "SEARCH d"}},
		"newest":              {s.usual.sql(freshOfAll.newest), []string{"SEARCH e", "SEARCH d"}},
		"fresh, mixed":        {s.usual.sql(freshOfUsual.lease), []string{"SEARCH e", "CORRELATED", "SEARCH r", "SEARCH d", "SEARCH t"}},
		"oldest fresh, mixed": {s.usual.sql(freshOfUsual.oldest), []string{"SEARCH e", "CORRELATED", "SEARCH r", "SEARCH d"}},
		"newest, mixed":       {s.usual.sql(freshOfUsual.newest), []string{"SEARCH e", "CORRELATED", "SEARCH r", "SEARCH d"}},
		"fresh, other":        {other.sql(freshOfOthers.lease), []string{"SEARCH r", "SEARCH e", "SEARCH d", "SEARCH t"}},
		"oldest fresh, other": {other.sql(freshOfOthers.oldest), []string{"SEARCH r", "SEARCH e", "SEARCH d"}},
		"newest, other":       {other.sql(freshOfOthers.newest), []string{"SEARCH r", "SEARCH e", "SEARCH d"}},
		"id":                  {readID, []string{"SEARCH events USING INTEGER PRIMARY KEY"}},
		"ends":                {readEnds, []string{"SEARCH delivery USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"}},
		"all ends":            {readAllEnds, []string{"MERGE", "LEFT", "SEARCH d", "CORRELATED", "SEARCH r", "RIGHT", "SEARCH routes USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"}},
		"retired":             {deleteEvents, []string{"SEARCH events"}},
		"retired deliveries":  {s.usual.sql(deleteDeliveries), []string{"SEARCH delivery"}},
		"retired attempts":    {s.usual.sql(deleteAttempts), []string{"SEARCH attempts USING PRIMARY KEY"}},
		"window":              {newestFirst.all.window, []string{"SEARCH e", "SEARCH d", "SEARCH t", "SEARCH o", "SEARCH r"}},
		"window, other":       {newestFirst.routed.window, []string{"SEARCH r", "SEARCH e", "SEARCH d", "SEARCH t", "SEARCH o"}},
		"dead everywhere":     {newestFirst.allDead, []string{"MERGE", "LEFT", "SEARCH delivery USING COVERING INDEX", "RIGHT", "SEARCH routes USING INDEX routes_dead"}},
	} {
		t.Run(name, func(t *testing.T) {
			plan := planOf(t, s, c.query)
			all := strings.Join(plan, "\n")
			require.NotContains(t, all, "TEMP B-TREE")
			require.NotContains(t, all, "SCAN")
			require.Len(t, plan, len(c.want), all)
			for i, want := range c.want {
				require.True(t, strings.HasPrefix(plan[i], want), fmt.Sprint(want, "\n", all))
			}
		})
	}
}

// Not all of the quarantine is read and sorted to find the suspects to remove.
func TestOldestSuspectsAreReadInOrder(t *testing.T) {
	plan := planOf(t, openTest(t), oldestSuspects)
	require.Equal(t, []string{"SCAN a", "SEARCH q USING INTEGER PRIMARY KEY (rowid=?)"}, plan)
}

// Of a part of the index, only the wanted entries are read, in order. Those of the first
// part are in a table of their own.
func TestQueriesOfAPartGoByItsKey(t *testing.T) {
	s := openTest(t)
	for name, c := range map[string]struct {
		query *partQuery
		want  string
	}{
		"key":              {readPart, "task_key=?"},
		"many keys":        {readPartMany, "task_key=?"},
		"beginning of one": {eventsBetween, "task_key>? AND task_key<?"},
		"newest first":     {newestFirst.task, "task_key=? AND seq<?"},
		"oldest first":     {oldestFirst.task, "task_key=? AND seq>?"},
		"for a filter":     {readKeys, "task_key>?"},
		"swept":            {readEntries, "(task_key,seq)>(?,?)"},
		"removed":          {deleteUpTo, "(task_key,seq)<(?,?)"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, "SEARCH part_entries USING PRIMARY KEY (part=? AND "+c.want+")", planOf(t, s, c.query.of(7))[0])
			require.Equal(t, "SEARCH task_index USING PRIMARY KEY ("+c.want+")", planOf(t, s, c.query.of(0))[0])
			for _, part := range []int64{0, 7} {
				require.NotContains(t, strings.Join(planOf(t, s, c.query.of(part)), "\n"), "TEMP B-TREE")
			}
		})
	}
}
