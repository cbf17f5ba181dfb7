package sqlite

import (
	"context"
	"database/sql/driver"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Without the index that it was made for, a query would read everything that
// was ever delivered.
func TestQueriesUseTheirIndexes(t *testing.T) {
	s := openTest(t)
	for name, c := range map[string]struct{ query, index string }{
		"ready":        {s.usual.sql(readyRows), "delivery_pending"},
		"retries":      {s.usual.sql(dueRetries), "delivery_due"},
		"last retry":   {s.usual.sql(lastDue), "delivery_due"},
		"oldest":       {s.usual.sql(oldestWithRow), "delivery_pending"},
		"dead":         {s.usual.sql(newestFirst.dead), "delivery_dead"},
		"dead, oldest": {s.usual.sql(oldestFirst.dead), "delivery_dead"},
	} {
		t.Run(name, func(t *testing.T) {
			var plan []string
			require.NoError(t, s.read(context.Background(), func(reader *conn) error {
				return reader.query("EXPLAIN QUERY PLAN "+c.query, func(row []driver.Value) error {
					plan = append(plan, text(row[3]))
					return nil
				}, make([]driver.Value, strings.Count(c.query, "?"))...)
			}))
			require.NotEmpty(t, plan)
			for _, step := range plan {
				require.NotContains(t, step, "TEMP B-TREE")
				if strings.Contains(step, " delivery") {
					require.Contains(t, step, "USING COVERING INDEX "+c.index)
				}
			}
			require.Contains(t, strings.Join(plan, "\n"), c.index)
		})
	}
}
