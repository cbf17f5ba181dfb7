package browsertest

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

func TestCallbacksAppearWithoutReload(t *testing.T) {
	g := start(t, config{})
	b := browse(t, desktop)
	b.open(g.Dashboard + "events")
	require.Contains(t, b.text(), "No events yet")
	eval[int](b, "window.here = 1") // gone after a reload

	g.accept(task("first-task", "avatar", 1))
	b.wait(`document.querySelector("[data-rows] .id")?.textContent === "first-task"`)
	g.accept(task("second-task", "avatar", 1))
	b.wait(`document.querySelector("[data-rows] .id")?.textContent === "second-task"`)
	b.wait(`[...document.querySelectorAll("[data-rows] .chip")].filter((c) => c.textContent === "Delivered").length === 2`)
	require.Equal(t, 1, eval[int](b, "window.here"))
	require.Equal(t, "Live", eval[string](b, `document.getElementById("live").textContent`))

	b.open(g.Dashboard)
	eval[int](b, "window.here = 1")
	g.accept(task("third-task", "avatar", 1))
	b.wait(`[...document.querySelectorAll(".tallies b")][0].textContent === "3"`)
	require.Equal(t, 1, eval[int](b, "window.here"))
}

// While somebody reads, nothing moves: new events wait for a click.
func TestNewEventsDoNotMoveWhatIsRead(t *testing.T) {
	g := start(t, config{})
	for i := range 60 {
		g.accept(task(fmt.Sprintf("task-%02d", i), "avatar", 1))
	}
	g.await("pending", 0)
	b := browse(t, desktop)
	b.open(g.Dashboard + "events")
	b.wait(`document.querySelectorAll("[data-rows] tr").length === 50`)
	eval[int](b, `window.row = document.querySelectorAll("[data-rows] tr")[20]; row.scrollIntoView({behavior: "instant"}); 0`)
	before := eval[float64](b, `row.getBoundingClientRect().top`)
	g.accept(task("new-task", "avatar", 1))
	b.wait(`!document.getElementById("fresh").hidden`)
	require.Equal(t, "Show 1 new event", eval[string](b, `document.getElementById("fresh").textContent.trim()`))
	require.InDelta(t, before, eval[float64](b, `row.getBoundingClientRect().top`), 1)
	require.NotContains(t, b.text(), "new-task")

	b.click("#fresh button")
	b.wait(`document.querySelector("[data-rows] .id").textContent === "new-task"`)
	require.Zero(t, eval[float64](b, "scrollY"))
	require.True(t, eval[bool](b, `document.getElementById("fresh").hidden`))
}

func TestPageLivesOnAcrossReloadOfCaddy(t *testing.T) {
	g := start(t, config{})
	b := browse(t, desktop)
	for _, fault := range []string{"ERR_", "503"} { // for a moment, Caddy closes connections
		b.allow(fault)
	}
	b.open(g.Dashboard + "events")
	eval[int](b, "window.here = 1") // gone if the page itself is loaded again
	g.reload(config{Handler: "concurrency 5"})
	g.accept(task("after-the-reload", "avatar", 1))
	b.wait(`document.querySelector("[data-rows] .id")?.textContent === "after-the-reload"`)
	b.wait(`document.getElementById("live").textContent === "Live"`)
	require.Equal(t, 1, eval[int](b, "window.here"))

	for i := range 10 {
		g.reload(config{Handler: fmt.Sprint("concurrency ", 6+i)})
	}
	require.Eventually(t, func() bool { return g.streams() == 1 }, patience, 100*time.Millisecond,
		"the page is told by the last config, and no stream of the others is left")
	require.Equal(t, 1, eval[int](b, "window.here"))
	b.run(chromedp.Navigate("about:blank"))
	require.Eventually(t, func() bool { return g.streams() == 0 }, patience, 100*time.Millisecond, "the page is gone")
}

// streams returns how many pages are told what happens, from the goroutines of Caddy.
func (g *gateway) streams() int {
	g.t.Helper()
	r, err := http.Get("http://" + g.admin + "/debug/pprof/goroutine?debug=2") //nolint:noctx // on this machine
	require.NoError(g.t, err)
	defer r.Body.Close()
	stacks, err := io.ReadAll(r.Body)
	require.NoError(g.t, err)
	return strings.Count(string(stacks), "(*visit).tell(")
}

// What somebody has typed, and where the focus is, stays.
func TestFormsAreLeftAlone(t *testing.T) {
	g := start(t, config{})
	g.accept(task("first-task", "avatar", 1))
	b := browse(t, desktop)
	b.open(g.Dashboard + "events")
	eval[int](b, `const i = document.querySelector("[name=type]"); i.value = "vid"; i.focus(); 0`)
	g.accept(task("second-task", "avatar", 1))
	b.wait(`document.querySelectorAll("[data-rows] tr").length === 2`)
	require.Equal(t, "vid", eval[string](b, `document.activeElement.value`))
}

func TestTimesAreLocal(t *testing.T) {
	g := start(t, config{})
	g.accept(task("some-task", "avatar", 1))
	b := browse(t, desktop) // in Berlin
	b.open(g.Dashboard + "events")
	b.wait(`document.querySelector("[data-rows] time").title.match(/GMT\+[12]|CES?T/)`)
	require.True(t, eval[bool](b, `(() => {
		const time = document.querySelector("[data-rows] time");
		const hour = new Date(time.dateTime).toLocaleTimeString("en-GB", {timeZone: "Europe/Berlin"});
		return time.textContent === hour && time.title.includes(time.dateTime);
	})()`))
}
