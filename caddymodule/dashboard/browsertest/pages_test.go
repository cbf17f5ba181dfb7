package browsertest

import (
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// tasks returns the ids of the tasks in the list.
func (b *tab) tasks() []string {
	b.t.Helper()
	return eval[[]string](b, `[...document.querySelectorAll("table.events tbody .id")].map((e) => e.textContent)`)
}

func TestFilters(t *testing.T) {
	g := start(t, config{Handler: "destination staging {\nmatch type avatar\nforward {$SERVICE}\n}"})
	g.upstream.fail("text2img", "no")
	g.accept(task("good", "avatar", 1))
	g.accept(task("bad", "text2img", 1))
	g.await("dead", 1)
	g.await("pending", 0)
	b := browse(t, desktop)
	filter := func(do ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		b.open(g.Dashboard + "events")
		b.run(do...)
		eval[int](b, "window.old = 1")
		b.click(".filter button")
		b.wait("window.old === undefined && document.readyState === 'complete'")
	}
	fill := func(name, value string) chromedp.Action[chromedp.Void] {
		return chromedp.SendKeys(chromedp.CSS(".filter [name="+name+"]"), value)
	}
	filter()
	require.Equal(t, []string{"bad", "good"}, b.tasks())
	filter(chromedp.Click(chromedp.CSS("[value=dead]")))
	require.Equal(t, []string{"bad"}, b.tasks())
	filter(chromedp.Click(chromedp.CSS("[value=dead]")), chromedp.Click(chromedp.CSS("[value=delivered]")))
	require.Equal(t, []string{"bad", "good"}, b.tasks())
	require.True(t, strings.HasSuffix(eval[string](b, "location.href"), "/admin/events?state=delivered%2Cdead"), "one short address for it")
	filter(fill("type", "avatar"))
	require.Equal(t, []string{"good"}, b.tasks())
	filter(fill("task", "bad"))
	require.Equal(t, []string{"bad"}, b.tasks())
	filter(chromedp.SetValue(chromedp.CSS("[name=destination]"), "staging"))
	require.Equal(t, []string{"good"}, b.tasks())
	filter(fill("since", "1h"))
	require.Equal(t, []string{"bad", "good"}, b.tasks())
	filter(fill("until", "1h"))
	require.Empty(t, b.tasks())
	require.Contains(t, b.text(), "No event fits")
	b.allow("400")
	filter(fill("since", "soon"))
	require.Contains(t, b.text(), `parameter "since": it is "soon": expected a time such as`)
}

func TestSearchFindsTaskOrEvent(t *testing.T) {
	g := start(t, config{})
	g.accept(task("other-task", "avatar", 1))
	id := g.accept(task("wanted-task", "avatar", 1))
	b := browse(t, desktop)
	find := func(text string) {
		t.Helper()
		b.open(g.Dashboard + "events")
		eval[int](b, "window.old = 1")
		b.run(chromedp.SendKeys(chromedp.CSS("#q"), text+"\r"))
		b.wait("window.old === undefined && document.readyState === 'complete'")
	}
	for _, text := range []string{"wanted-task", " " + strings.ToUpper(id), id[:10]} {
		find(text)
		require.Contains(t, eval[string](b, "document.title"), "Event wanted-task", text)
	}
	find("nobody")
	require.Contains(t, b.text(), "no task has that as its whole id. If it is no task: expected the first digits of an event's id")

	// events of a task have ids that begin alike
	g.accept(task("wanted-task", "avatar", 0))
	find(id[:10])
	require.Equal(t, []string{"wanted-task", "wanted-task"}, b.tasks())
	require.Contains(t, b.text(), "2 events with an id, or a task, that begins with "+id[:10])
	find("wanted-task")
	require.Equal(t, []string{"wanted-task", "wanted-task"}, b.tasks())
	require.Equal(t, "?task=wanted-task", eval[string](b, "location.search"))
}

func TestPagesOfTheListLeadThroughAllEvents(t *testing.T) {
	g := start(t, config{})
	for i := range 120 {
		g.accept(task("task-"+strings.Repeat("x", i), "avatar", 1))
	}
	b := browse(t, desktop)
	b.open(g.Dashboard + "events")
	var seen []string
	for {
		seen = append(seen, b.tasks()...)
		if !eval[bool](b, `document.querySelector("[rel=next]") !== null`) {
			break
		}
		eval[int](b, "window.old = 1")
		b.click("[rel=next]")
		b.wait("window.old === undefined && document.readyState === 'complete'")
	}
	require.Len(t, seen, 120)
	require.Equal(t, "task-", seen[119])
	b.click(".pages a")
	b.wait(`document.querySelector("[data-rows] tr a").textContent.endsWith("xx…")`)
}

func TestEventPage(t *testing.T) {
	g, pages := lively(t)
	b := browse(t, desktop)
	b.allow("404 (Not Found)") // an image that is gone
	b.open(g.Dashboard + pages["event"])
	text := b.text()
	for _, want := range []string{
		"39371b3800cc4a7e9e24867b0dfdf25b", "Delivered", "HTTP 204", "2 templates, 5 images", `"creditsIncrement": 4`,
		`"templateId": "studio-portrait"`, "default", "staging", "75f15294e55540e198bb19cc0a068fd2",
	} {
		require.Contains(t, text, want)
	}
	require.Equal(t, 5, eval[int](b, `document.querySelectorAll(".medium img").length`))
	require.Equal(t, "https://example.com/results/39371b38.zip", eval[string](b, `document.querySelector(".frame.link + .caption a").href`))
	b.wait(`document.querySelector(".frame.gone")`)
	for _, r := range g.upstream.images() {
		require.Empty(t, r.Header.Get("Referer"))
		require.Empty(t, r.Header.Get("Cookie"))
	}
}

// Whoever may look must not be able to send events themselves: no signature is shown, nor what
// makes them.
func TestSignaturesAreNotShown(t *testing.T) {
	const secret = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	g := start(t, config{Handler: "sign whsec_" + secret})
	id := g.accept(task("some-task", "avatar", 1))
	g.await("delivered", 1)
	b := browse(t, desktop)
	b.open(g.Dashboard + "event?id=" + id)
	require.Contains(t, b.text(), "v1,…")
	require.Contains(t, b.text(), "made for each attempt with the secret of default")
	page := eval[string](b, "document.documentElement.outerHTML")
	require.NotContains(t, page, secret)
	require.NotRegexp(t, `v1,[A-Za-z0-9+/]{20}`, page)
}

// A sensitive image is blurred until somebody asks for it, also with the keyboard.
func TestSensitiveImagesAreBlurred(t *testing.T) {
	for name, l := range map[string]look{"with script": desktop, "without script": {Width: 1280, Height: 900, NoScript: true}} {
		t.Run(name, func(t *testing.T) {
			g, pages := lively(t)
			b := browse(t, l)
			b.allow("404 (Not Found)")
			b.open(g.Dashboard + pages["event"])
			blurred := func() bool {
				return eval[string](b, `getComputedStyle(document.querySelector(".sensitive img")).filter`) != "none"
			}
			require.True(t, blurred())
			require.Equal(t, 1, eval[int](b, `document.querySelectorAll(".sensitive").length`))
			eval[any](b, `document.querySelector(".reveal input").focus()`)
			b.run(chromedp.KeyEvent(" "))
			require.False(t, blurred())
			b.run(chromedp.KeyEvent(" "))
			require.True(t, blurred())
		})
	}
}

func TestImagesFromOtherHostsAreLinksOnly(t *testing.T) {
	g := start(t, config{Dashboard: "image_hosts off"})
	id := g.accept(task("some-task", "avatar", 1, object{"avatarResult": []object{
		{"templateId": "t", "images": []object{{"id": "a", "url": g.Service + "/img/a.png", "hasHsfw": false}}},
	}}))
	b := browse(t, desktop)
	b.open(g.Dashboard + "event?id=" + id)
	require.Contains(t, b.text(), "is not in image_hosts")
	require.Zero(t, eval[int](b, `document.querySelectorAll(".medium img").length`))
	require.Empty(t, g.upstream.images())
	for _, url := range b.asked() {
		require.True(t, strings.HasPrefix(url, g.Site), url)
	}
}

func TestProblems(t *testing.T) {
	g, _ := lively(t)
	b := browse(t, desktop)
	b.open(g.Dashboard + "problems")
	text := b.text()
	require.Contains(t, text, "Dead deliveries 12")
	require.Equal(t, []string{"3", "3", "3", "3"}, eval[[]string](b, `[...document.querySelectorAll("[aria-labelledby=dead] td.strong")].map((e) => e.textContent)`))
	require.Contains(t, text, "out of memory: worker 42 was killed")
	require.Contains(t, text, "Quarantine 4")
	require.Contains(t, text, "/avatarResult/0/images/0/url")
	b.click(`a[href^="./quarantined"]`)
	b.wait(`document.querySelector("h1").textContent === "Callback No. 4"`)
	require.Contains(t, b.text(), `{"taskId":"5b1f"`)
}

func TestWhitelist(t *testing.T) {
	g := start(t, config{Handler: ""})
	b := browse(t, desktop)
	b.open(g.Dashboard + "whitelist")
	require.Contains(t, b.text(), "Nobody.")
	explain := func(ip string) string {
		t.Helper()
		b.run(chromedp.SetValue(chromedp.CSS("[name=ip]"), ip))
		eval[int](b, "window.old = 1")
		b.click(".explain button")
		b.wait("window.old === undefined && document.readyState === 'complete'")
		return b.text()
	}
	require.Contains(t, explain("127.0.0.1"), "Let in by allow 127.0.0.1")
	require.Contains(t, explain("192.0.2.1"), "refused: the address is not whitelisted")
	require.Contains(t, explain("nonsense"), `it is "nonsense": expected an IPv4 or IPv6 address`)
}

// Every page says all that matters without a script.
func TestWithoutScript(t *testing.T) {
	g, pages := lively(t)
	b := browse(t, look{Width: 1280, Height: 900, NoScript: true})
	b.allow("404")
	b.allow("400")
	for page, path := range pages {
		b.open(g.Dashboard + path)
		require.Regexp(t, `As of .* UTC\s+Reload`, b.text(), page)
	}
	b.open(g.Dashboard + "events?type=avatar")
	require.Len(t, b.tasks(), 11)
}

// The pages work wherever a config has them.
func TestAnyPrefix(t *testing.T) {
	g := start(t, config{Site: "handle /deep/er/* {\nfotor_webhook_dashboard\n}\nhandle_path /bare* {\nfotor_webhook_dashboard\n}"})
	id := g.accept(task("some-task", "avatar", 1))
	b := browse(t, desktop)
	for _, prefix := range []string{"/deep/er/", "/bare", "/admin/"} {
		b.open(g.Site + prefix)
		home := strings.TrimSuffix(prefix, "/") + "/"
		require.Equal(t, home, eval[string](b, "location.pathname"), "with a slash, so that links lead somewhere")
		follow := func(selector, path string) {
			t.Helper()
			b.click(selector)
			b.wait("location.pathname + location.search === '" + home + path + "' && document.readyState === 'complete'")
			require.Equal(t, "15px", eval[string](b, "getComputedStyle(document.body).fontSize"), "the style was found")
		}
		follow("nav li:nth-child(2) a", "events")
		follow("[data-rows] a", "event?id="+id)
		follow("nav li:nth-child(3) a", "problems")
		follow("nav li:nth-child(4) a", "whitelist")
		follow(".brand", "")
	}
}

// Charts are pictures that are there, in the reader's time zone and colours, and the spans
// lead to others.
func TestCharts(t *testing.T) {
	g, _ := lively(t)
	const drawn = `[...document.querySelectorAll(".handler > .charts img")].every((e) => e.complete && e.naturalWidth > 0)`
	for _, l := range []look{desktop, {Width: 1280, Height: 900, Dark: true}} {
		b := browse(t, l)
		b.open(g.Dashboard)
		require.Equal(t, 2, eval[int](b, `document.querySelectorAll(".handler > .charts img").length`))
		b.wait(drawn)
		source := eval[string](b, `document.querySelector(".charts img").currentSrc`)
		require.Contains(t, source, "&tz=")
		require.Equal(t, l.Dark, strings.Contains(source, "dark=true"))
		require.Regexp(t, `^Callbacks: [1-9][0-9,]* accepted, `, eval[string](b, `document.querySelector(".charts img").alt`))
		b.click(".charts-head li:nth-child(3) a")
		b.wait(`location.search === "?span=week" && document.readyState === "complete"`)
		b.wait(drawn)
		b.click(".more summary")
		b.wait(`[...document.querySelectorAll(".more[open] img")].every((e) => e.complete && e.naturalWidth > 0)`)
	}
}

// Two handlers: each page is about one of them, and leads to the other.
func TestSeveralHandlers(t *testing.T) {
	g := start(t, config{Site: "fotor_webhook /other {\nname other\nallow 127.0.0.1\nforward http://127.0.0.1:1\n}"})
	g.accept(task("of-default", "avatar", 1))
	b := browse(t, desktop)
	b.open(g.Dashboard)
	require.Equal(t, []string{"default", "other"}, eval[[]string](b, `[...document.querySelectorAll(".handler h2")].map((e) => e.lastChild.textContent.trim())`))
	b.click("nav li:nth-child(2) a")
	b.wait(`document.querySelectorAll("[data-rows] tr").length === 1`)
	b.click(".switch li:nth-child(2) a")
	b.wait(`location.search === "?handler=other"`)
	b.wait(`document.querySelector(".empty h2").textContent === "No events yet"`)
	b.click("nav li:nth-child(3) a")
	b.wait(`location.pathname.endsWith("/problems") && location.search === "?handler=other"`)
}

// The first page is small, and what it loads is cached for ever.
func TestFirstPageIsSmall(t *testing.T) {
	g, _ := lively(t)
	fetch := func(path string) (size int64, caching string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.Dashboard+path, nil)
		require.NoError(t, err)
		r.Header.Set("Accept-Encoding", "gzip") // so that Go does not unpack it
		response, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer response.Body.Close()
		require.Equal(t, http.StatusOK, response.StatusCode)
		require.Equal(t, "gzip", response.Header.Get("Content-Encoding"))
		return response.ContentLength, response.Header.Get("Cache-Control")
	}
	b := browse(t, desktop)
	b.open(g.Dashboard)
	total, _ := fetch("")
	files := eval[[]string](b, `[...document.querySelectorAll("link, script, img:not([data-chart])")].map((e) => (e.src || e.href).split("/").pop())`)
	require.Len(t, files, 4)
	for _, chart := range eval[[]string](b, `[...document.querySelectorAll(".handler > .charts img")].map((e) => e.currentSrc.split("/").pop())`) {
		size, _ := fetch(chart)
		total += size
	}
	for _, file := range files {
		size, caching := fetch(file)
		total += size
		require.Equal(t, "public, max-age=31536000, immutable", caching)
	}
	require.Less(t, total, int64(60<<10))
}

// After a replay, the time line has the attempts before it too.
func TestReplayIsOnTheTimeLine(t *testing.T) {
	g := start(t, config{})
	g.upstream.fail("avatar", "not yet")
	g.accept(task("taken", "videoEnhancer", 1)) // or the whole service is in trouble
	id := g.accept(task("some-task", "avatar", 1))
	g.await("dead", 1)
	g.upstream.fail("avatar", "")
	r, err := http.Post("http://"+g.admin+"/fotor_webhook/default/events/"+id+"/replay", "", nil) //nolint:noctx // on this machine
	require.NoError(t, err)
	require.NoError(t, r.Body.Close())
	require.Equal(t, http.StatusOK, r.StatusCode)
	g.await("dead", 0)
	g.await("pending", 0)
	b := browse(t, desktop)
	b.open(g.Dashboard + "event?id=" + id)
	lines := eval[[]string](b, `[...document.querySelectorAll(".timeline .answer")].map((e) => e.textContent)`)
	require.Equal(t, "HTTP 500", lines[0])
	require.Equal(t, []string{"HTTP 500", "Replayed", "HTTP 204"}, lines[len(lines)-3:])
}
