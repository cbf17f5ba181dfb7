package browsertest

import (
	"fmt"
	"testing"

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
	g.reload(config{Handler: "concurrency 5"})
	g.accept(task("after-the-reload", "avatar", 1))
	b.wait(`document.querySelector("[data-rows] .id")?.textContent === "after-the-reload"`)
	b.wait(`document.getElementById("live").textContent === "Live"`)
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
