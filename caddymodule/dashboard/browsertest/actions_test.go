package browsertest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// logged returns the first line of the log with that message.
func (g *gateway) logged(message string) (line object) {
	g.t.Helper()
	require.Eventually(g.t, func() bool { // it comes through a pipe, perhaps after an answer
		for text := range strings.Lines(g.log.String()) {
			if strings.Contains(text, fmt.Sprintf("%q", message)) && strings.HasSuffix(text, "\n") {
				return json.Unmarshal([]byte(text), &line) == nil
			}
		}
		return false
	}, patience, 20*time.Millisecond, "%s is not logged", message)
	return line
}

// acting is a config with actions.
func acting(handler string) config {
	return config{Handler: handler, Dashboard: "allow_actions\nimage_hosts off"}
}

// press presses the button with that text, and waits for the page that is shown after it.
func (b *tab) press(text string) {
	b.t.Helper()
	eval[int](b, "window.old = 1")
	require.True(b.t, eval[bool](b, fmt.Sprintf(`(() => {
		for (const e of document.querySelectorAll("main button, main a.button")) {
			if (e.innerText.replace(/\s+/g, " ").trim() === %q) { e.click(); return true }
		}
		return false
	})()`, text)), "no button %q", text)
	b.wait("window.old === undefined && document.readyState === 'complete' && document.querySelector('main')")
}

// told waits until the page tells of an action in those words, in that role.
func (b *tab) told(role, text string) {
	b.t.Helper()
	b.wait(fmt.Sprintf(`document.querySelector("#notice[role=%s] p")?.innerText.includes(%q)`, role, text))
}

// withAndWithoutScript runs a test both ways.
func withAndWithoutScript(t *testing.T, test func(t *testing.T, l look)) {
	t.Helper()
	t.Run("with script", func(t *testing.T) { test(t, desktop) })
	t.Run("without script", func(t *testing.T) { test(t, look{Width: 1280, Height: 900, NoScript: true}) })
}

func TestReplayOfADeadEventAndOfAGroup(t *testing.T) {
	withAndWithoutScript(t, func(t *testing.T, l look) {
		g := start(t, acting(""))
		g.upstream.fail("avatar", "no such avatar 4711 <b>\nsecond line")
		g.upstream.fail("text2img", "no words")
		id := g.accept(task("a-0", "avatar", 1))
		for i := range 9 {
			g.accept(task(fmt.Sprintf("a-%d", i+1), "avatar", 1))
		}
		for i := range 3 {
			g.accept(task(fmt.Sprintf("t-%d", i), "text2img", 1))
		}
		for i := range 30 { // else the service is in trouble, and nothing is given up
			g.accept(task(fmt.Sprintf("well-%d", i), "img2img", 1))
		}
		g.await("dead", 13)
		g.upstream.fail("avatar", "")
		g.upstream.fail("text2img", "")

		b := browse(t, l)
		b.open(g.Dashboard + "event?id=" + id)
		b.press("Replay")
		b.told("status", "Replayed: the event is due now.")
		require.Contains(t, eval[string](b, "location.href"), "/admin/event?id="+id)
		g.await("delivered", 31)

		b.open(g.Dashboard + "problems")
		require.Equal(t, "9", eval[string](b, `document.querySelector("td.strong").innerText`))
		b.press("Replay all that failed like that")
		b.told("status", "Replayed 9 deliveries to default.")
		g.await("delivered", 40)
		require.Equal(t, 3, g.events("dead"), "those that failed otherwise stay")
		require.NotContains(t, eval[string](b, `document.querySelector("tbody").innerText`), "no such avatar")
		require.Subset(t, g.logged("events replayed by hand"), object{
			"action": "replay-group", "handler": "default", "destination": "default", "status": 500.0, "group": "HTTP #: no such avatar # <b> second line", "changed": 9.0,
		})
	})
}

func TestHoldAndResume(t *testing.T) {
	withAndWithoutScript(t, func(t *testing.T, l look) {
		g := start(t, acting("destination staging {\nforward {$SERVICE}\n}"))
		b := browse(t, l)
		b.open(g.Dashboard)
		b.press("Hold… staging")
		require.Contains(t, b.text(), "Hold deliveries to staging?")
		b.run(chromedp.SendKeys(chromedp.CSS("[name=reason]"), "a release <i>"), chromedp.SendKeys(chromedp.CSS("[name=for]"), "2h"))
		b.press("Hold")
		b.told("status", "Held: nothing is delivered to staging for 2h.")
		require.Contains(t, b.text(), "Held by hand")
		require.Contains(t, b.text(), "a release <i>")
		g.accept(task("waits", "avatar", 1))
		g.await("pending", 1)
		b.open(g.Dashboard)
		b.press("Resume staging")
		b.told("status", "Resumed: deliveries to staging go on.")
		g.await("delivered", 1)

		b.press("Hold all… destinations")
		b.press("Hold")
		b.told("status", "Held: nothing is delivered to all destinations until somebody resumes it.")
		b.press("Resume all destinations")
		require.NotContains(t, b.text(), "Held by hand")
	})
}

func TestPurgeAsksFirst(t *testing.T) {
	withAndWithoutScript(t, func(t *testing.T, l look) {
		g := start(t, acting("destination staging {\nforward {$SERVICE}\n}"))
		id := g.accept(task("one", "avatar", 1))
		g.accept(task("two", "avatar", 1))
		g.await("delivered", 2)
		b := browse(t, l)
		b.open(g.Dashboard + "event?id=" + id)
		b.press("Purge… the delivery to staging")
		require.Contains(t, b.text(), "Purge the delivery to staging?")
		b.press("Cancel")
		require.Equal(t, 2, eval[int](b, `document.querySelectorAll(".delivery").length`), "nothing has happened")
		b.press("Purge… the delivery to staging")
		b.press("Purge for good")
		b.told("status", "Purged: the delivery to staging is gone.")
		require.Equal(t, 1, eval[int](b, `document.querySelectorAll(".delivery").length`))
		b.press("Purge…")
		b.press("Purge for good")
		b.told("status", "Purged: the event is gone.")
		g.await("delivered", 1)
	})
}

func TestReleaseOfOneAndOfAGroup(t *testing.T) {
	withAndWithoutScript(t, func(t *testing.T, l look) {
		g := start(t, acting(""))
		for i := range 4 {
			g.post(task(fmt.Sprintf("later-%d", i), "avatar", 7))
		}
		g.post(`not JSON`)
		b := browse(t, l)
		b.open(g.Dashboard + "quarantined?id=1")
		b.press("Release")
		b.told("alert", "Not released: it is still not valid by today's rules: /status must be")
		g.reload(acting("map_status 7 completed"))

		b.open(g.Dashboard + "quarantined?id=1")
		b.press("Release")
		b.told("status", "Released: it is an event now.")
		require.Contains(t, eval[string](b, "document.title"), "Event later-0")
		b.open(g.Dashboard + "problems")
		b.press("Release all that are wrong like that")
		b.told("status", "Released 3 callbacks.")
		g.await("delivered", 4)

		b.open(g.Dashboard + "quarantined?id=5")
		b.press("Purge…")
		require.Contains(t, b.text(), "Purge callback No. 5?")
		b.press("Purge for good")
		b.told("status", "Purged: callback No. 5 is gone.")
		require.Contains(t, b.text(), "Empty.")
	})
}

func TestTryIt(t *testing.T) {
	withAndWithoutScript(t, func(t *testing.T, l look) {
		g := start(t, acting(""))
		b := browse(t, l)
		b.open(g.Dashboard + "try")
		require.Contains(t, b.text(), "Your address is 127.0.0.1, which allow 127.0.0.1 lets in.")
		b.run(chromedp.SetValue(chromedp.CSS("[name=type]"), "videoEnhancer"), chromedp.SendKeys(chromedp.CSS("[name=task]"), "my-task"))
		b.press("Send")
		b.told("status", "Accepted, and stored as a new event.")
		g.await("delivered", 1)
		if l.NoScript {
			b.run(chromedp.Reload())
		}
		b.wait(`document.body.innerText.includes("default: delivered, HTTP 204")`)

		b.run(chromedp.SetValue(chromedp.CSS("#body"), "{\n\"status\": 3, \"taskId\": \"<script>\"}"))
		b.press("Send this")
		b.told("alert", "Not accepted: HTTP 422 Unprocessable Entity.")
		for _, want := range []string{"Not a Fotor callback.", "/status must be the integer", "/type is required"} {
			require.Contains(t, b.text(), want)
		}
		//nolint:testifylint // as it was typed
		require.Equal(t, "{\n\"status\": 3, \"taskId\": \"<script>\"}", eval[string](b, `document.getElementById("body").value`), "it can be mended")

		b.run(chromedp.SetValue(chromedp.CSS("[name=status]"), "failed"))
		b.press("Edit as JSON")
		require.Contains(t, eval[string](b, `document.getElementById("body").value`), `"status": 2`)
		b.press("Send this")
		b.told("status", "Accepted")

		g.reload(config{Dashboard: "allow_actions", Allow: "192.0.2.1"})
		b.open(g.Dashboard + "try")
		require.Contains(t, b.text(), "Your address, 127.0.0.1, is not let in")
		b.press("Send")
		b.told("alert", "Not accepted: HTTP 403 Forbidden.")
		require.Contains(t, b.text(), "Not whitelisted.")
	})
}

// An action reaches the handler that the page is about.
func TestActionsOfTwoHandlers(t *testing.T) {
	g := start(t, config{Site: "fotor_webhook /other {\nname another\nallow 127.0.0.1\ninbox sqlite {$DIR}/other.db\nforward {$SERVICE}\n}", Dashboard: "allow_actions"})
	b := browse(t, desktop)
	b.open(g.Dashboard)
	require.Equal(t, 2, eval[int](b, `document.querySelectorAll(".handler").length`))
	eval[any](b, `document.querySelector("#handler-default a.button").click()`)
	b.wait(`document.querySelector("[name=reason]")`)
	b.press("Hold")
	b.told("status", "Held: nothing is delivered to default until somebody resumes it. (Handler default.)")
	require.Contains(t, eval[string](b, `document.querySelector("#handler-default").innerText`), "Held by hand")
	require.NotContains(t, eval[string](b, `document.querySelector("#handler-another").innerText`), "Held by hand")

	b.open(g.Dashboard + "try?handler=another")
	b.press("Send")
	b.told("status", "Accepted")
	require.Zero(t, g.events("pending"), "the other handler has it")
}

// evil is a page of another origin that posts a form as soon as it is opened.
func evil(t *testing.T, target string, fields url.Values) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<form method="post" action=%q>`, target)
		for name := range fields {
			fmt.Fprintf(w, `<input type="hidden" name=%q value=%q>`, name, fields.Get(name))
		}
		fmt.Fprint(w, `</form><script>document.forms[0].submit()</script>`)
	}))
	t.Cleanup(s.Close)
	return s
}

func TestActionsFromAnotherOriginAreRefused(t *testing.T) {
	g := start(t, acting(""))
	b := browse(t, desktop)
	b.allow("403")
	b.allow("favicon.ico")
	b.run(chromedp.Navigate(evil(t, g.Dashboard+"hold", url.Values{"handler": {"default"}}).URL))
	b.wait(`document.querySelector("main")`)
	require.Contains(t, b.text(), "Nothing was done: the request comes from a page of another site.")
	require.Contains(t, g.log.String(), `"msg":"action refused: it does not come from a page of the dashboard"`)
	b.open(g.Dashboard)
	require.NotContains(t, b.text(), "Held by hand")
}

// Over plain http to a name, browsers send no Sec-Fetch-Site: there Origin decides.
func TestActionsOverPlainHTTP(t *testing.T) {
	g := start(t, acting(""))
	b := browse(t, desktop)
	b.allow("403")
	b.allow("favicon.ico")
	b.allow("Cross-Origin-Opener-Policy header has been ignored")
	dashboard := strings.Replace(g.Dashboard, "127.0.0.1", "gateway.test", 1)
	b.open(dashboard)
	b.press("Hold… default")
	b.press("Hold")
	b.told("status", "Held: nothing is delivered to default")

	b.run(chromedp.Navigate(evil(t, dashboard+"resume", url.Values{"handler": {"default"}}).URL))
	b.wait(`document.querySelector("main")`)
	require.Contains(t, b.text(), "Nothing was done")
	b.open(dashboard)
	require.Contains(t, b.text(), "Held by hand")
}

func TestNothingCanBeDoneUnlessAllowed(t *testing.T) {
	g, pages := lively(t)
	b := browse(t, desktop)
	b.allow("404")
	for _, page := range []string{"", pages["event"], "problems", "quarantined?id=1"} {
		b.open(g.Dashboard + page)
		require.Zero(t, eval[int](b, `document.querySelectorAll("form[method=post], a[href^='./purge'], a[href^='./hold'], a[href^='./try']").length`), page)
	}
	for _, leaf := range []string{"hold", "try", "replay", "purge"} {
		r, err := http.PostForm(g.Dashboard+leaf, url.Values{"handler": {"default"}}) //nolint:noctx // on this machine
		require.NoError(t, err)
		require.NoError(t, r.Body.Close())
		require.Equal(t, http.StatusMethodNotAllowed, r.StatusCode, leaf)
		b.open(g.Dashboard + leaf)
		require.Contains(t, b.text(), "There is nothing here")
	}
}

// The log names the user that Caddy has authenticated.
func TestTheLogNamesTheUser(t *testing.T) {
	c := acting("")
	c.Site = "basic_auth /admin/* {\nops $2a$04$yxGxyjXfN1dEmCj5kNNF3u1aMFOgFNSSGimiiGzUneRnYAuKI2GW.\n}"
	g := start(t, c)
	require.Eventually(t, func() bool {
		status, _ := g.post(task("any", "avatar", 1))
		return status == http.StatusOK
	}, patience, 20*time.Millisecond)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.Dashboard+"hold", strings.NewReader("handler=default&reason=why"))
	require.NoError(t, err)
	r.SetBasicAuth("ops", "secret")
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := fresh.RoundTrip(r)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusSeeOther, answer.StatusCode)
	require.Subset(t, g.logged("deliveries held by hand"), object{"action": "hold", "handler": "default", "user": "ops", "client_ip": "127.0.0.1", "reason": "ops: why"})
}

// fresh makes a connection for each request: Caddy may just be closing one that was kept.
var fresh = &http.Transport{DisableKeepAlives: true}

// do sends a form, and returns the page that tells what came of it.
func (g *gateway) do(leaf string, fields ...string) string {
	g.t.Helper()
	form := make(url.Values)
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	form.Set("handler", "default")
	r, err := http.NewRequestWithContext(g.t.Context(), http.MethodPost, g.Dashboard+leaf, strings.NewReader(form.Encode()))
	require.NoError(g.t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := fresh.RoundTrip(r)
	require.NoError(g.t, err)
	require.NoError(g.t, answer.Body.Close())
	require.Equal(g.t, http.StatusSeeOther, answer.StatusCode)
	return strings.TrimPrefix(answer.Header.Get("Location"), "./")
}

func TestPagesOfActionsFitTheirWindow(t *testing.T) {
	c := acting("destination staging {\nmatch status completed failed\nforward {$SERVICE}\n}")
	g := start(t, c)
	all := fill(g)
	c.Allow = "192.0.2.1"
	held := g.do("hold", "destination", "staging", "reason", "a release of the service", "for", "2h")
	pages := map[string]string{
		"act-overview": held, "act-event": g.do("replay", "id", strings.TrimPrefix(all["event"], "event?id=")),
		"act-problems": g.do("replay-group", "destination", "default", "status", "500", "reason", "other"), "act-quarantined": g.do("release", "id", "4"),
		"act-hold": "hold?destination=default", "act-purge": strings.Replace(all["event"], "event", "purge", 1), "act-discard": "discard?id=4",
		"act-try": "try", "act-try-taken": g.do("try", "type", "videoEnhancer"), "act-try-invalid": g.do("try", "by_hand", "true", "body", "{\"status\": 3,\n \"taskId\": 7}"),
	}
	fit(t, g, pages)
	g.reload(c)
	fit(t, g, map[string]string{"act-try-refused": g.do("try", "type", "avatar")})
}
