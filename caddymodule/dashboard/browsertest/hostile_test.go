package browsertest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// hostile is text that tries to be more than text.
var hostile = map[string]string{
	"html":      `</td></table></main><script>window.hacked=1</script><img src=x onerror="window.hacked=1"><h1>hacked</h1><base href="https://evil.example/">`,
	"attribute": `" onmouseover="window.hacked=1" autofocus onfocus="window.hacked=1" x="'` + "`",
	"template":  `{{.}}{{template "main"}}${window.hacked=1}`,
	"scheme":    `javascript:window.hacked=1//`,
	"bidi":      "avatar\u202egnp.exe\u2066\u2067\u200b\u2028\u2029\ufeff",
	"long":      strings.Repeat("W", 100<<10),
	"zalgo":     "z" + strings.Repeat("\u0300\u0301\u0302", 3000),
	"control":   "a\x1b[31mb\u0000c\u0007\u009b",
}

// Whatever a callback, an address or an answer has is text on every page, and breaks none.
func TestHostileTextsAreText(t *testing.T) {
	g := start(t, config{})
	var pages []string
	number := 0
	for _, name := range []string{"html", "bidi", "zalgo"} {
		g.upstream.fail(hostile[name], "trouble "+hostile[name])
	}
	for name, text := range hostile {
		id := g.accept(task("task "+text, text, 1, object{
			"businessId": text,
			"resultUrl":  "https://example.com/" + strings.Map(printable, text[:min(len(text), 3000)]) + ".png",
			"avatarResult": []object{{"templateId": text, "images": []object{
				{"id": text, "url": g.Service + "/img/" + name + `.png?"'<>`, "hasHsfw": true},
			}}},
			"msg": text, "result": []object{{"name": text, "url": text}}, text: text,
		}))
		pages = append(pages, "event?id="+id)
		body, err := json.Marshal(object{"taskId": text, "type": 1, text: text, "status": text})
		require.NoError(t, err)
		refused, _ := g.post(string(body))
		require.Equal(t, http.StatusUnprocessableEntity, refused)
		number++
		pages = append(pages, fmt.Sprintf("quarantined?id=%d", number))
		escaped := queryEscape(text[:min(len(text), 1500)])
		pages = append(pages, "events?task="+escaped, "events?q="+escaped, "events?state="+escaped, "whitelist?ip="+escaped,
			"whitelist?ip=127.0.0.1&forwarded_for="+escaped, "event?id="+escaped, "events?handler="+escaped, escaped)
	}
	g.await("dead", 3)
	pages = append(pages, "", "events", "events?state=dead", "problems", "whitelist")
	for _, l := range []look{desktop, phone} {
		b := browse(t, l)
		for _, fault := range []string{"400", "404"} {
			b.allow(fault)
		}
		for _, page := range pages {
			b.open(g.Dashboard + page)
			require.Equal(t, map[string]any{"hacked": false, "titles": 1.0, "scripts": 1.0, "handlers": 0.0, "base": 0.0},
				eval[map[string]any](b, `({
					hacked: "hacked" in window,
					titles: document.querySelectorAll("h1").length,
					scripts: document.scripts.length,
					handlers: document.querySelectorAll("[onerror], [onfocus], [onmouseover], [autofocus]").length,
					base: document.querySelectorAll("base").length,
				})`), page)
			require.False(t, eval[bool](b, `/[\u202a-\u202e\u2066-\u2069\u200b\u009b\u001b]/.test(document.body.textContent)`), "something invisible on %.100s", page)
			require.LessOrEqual(t, eval[int64](b, "document.documentElement.scrollWidth"), l.Width, "%.100s", page)
			require.Zero(t, eval[int](b, `[...document.querySelectorAll("a[href], [src]")].filter((e) => /^(javascript|data|vbscript):/i.test(e.getAttribute("href") ?? e.getAttribute("src"))).length`), page)
		}
		for _, url := range b.asked() {
			require.True(t, strings.HasPrefix(url, g.Site) || strings.HasPrefix(url, g.Service+"/img/"), "it asked for %.200s", url)
		}
	}
}

// printable keeps what may stand in a URL.
func printable(r rune) rune {
	if r <= ' ' || r > '~' || strings.ContainsRune(`"<>\^{|}%`+"`", r) {
		return '_'
	}
	return r
}

// queryEscape escapes every byte.
func queryEscape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, "%%%02x", s[i])
	}
	return b.String()
}
