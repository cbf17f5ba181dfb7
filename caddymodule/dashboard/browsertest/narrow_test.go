package browsertest

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// With the longest name that a destination may have, no page is wider than its window.
func TestLongNamesFitNarrowWindows(t *testing.T) {
	name := strings.Repeat("destination-", 5) + "long"
	g := start(t, acting("destination "+name+" {\nmatch type nothing\nforward {$SERVICE}\n}"))
	id := g.accept(task("task", "avatar", 1))
	g.await("pending", 0)
	for _, width := range []int64{320, 345, 390} {
		b := browse(t, look{Width: width, Height: 844})
		for _, path := range []string{"", "events", "event?id=" + id, "purge?id=" + id, "problems", "whitelist", "hold?destination=" + name, "try"} {
			b.open(g.Dashboard + path)
			assert.LessOrEqual(t, eval[int64](b, "document.documentElement.scrollWidth"), width, path)
			assert.Empty(t, eval[[]string](b, `[...document.querySelectorAll("select, .top nav a")].filter((e) => e.getBoundingClientRect().right > innerWidth).map((e) => e.outerHTML)`), path)
		}
	}
}
