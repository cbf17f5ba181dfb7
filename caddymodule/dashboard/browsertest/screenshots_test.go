package browsertest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// lively fills a gateway with what operators and developers see, and returns the paths of
// the pages below the dashboard.
func lively(t *testing.T) (g *gateway, pages map[string]string) {
	t.Helper()
	g = start(t, config{Handler: "destination staging {\nmatch status completed failed\nforward {$SERVICE}\nrate 50/s\n}"})
	return g, fill(g)
}

// fill sends callbacks of many kinds.
func fill(g *gateway) (pages map[string]string) {
	image := func(id, path string, sensitive bool) object {
		return object{"id": id, "url": g.Service + "/img/" + path, "hasHsfw": sensitive}
	}
	g.upstream.fail("text2img", "out of memory: worker 42 was killed")
	g.upstream.fail("img2img", "no route for this type")
	for i := range 3 {
		g.accept(task(fmt.Sprintf("4c1f0aa2e7d94b0c8e11f2ab90cd1f%02d", i), "text2img", 1, object{"resultUrl": g.Service + "/img/t.png"}))
		g.accept(task(fmt.Sprintf("77aa0aa2e7d94b0c8e11f2ab90cd1f%02d", i), "img2img", 2, object{"msg": "the source image has no face"}))
	}
	for i := range 30 {
		g.accept(task(fmt.Sprintf("91be73d2e7d94b0c8e11f2ab90cd1f%02d", i), []string{"avatar", "videoEnhancer", "imgupscale"}[i%3], i%2))
	}
	id := g.accept(task("39371b3800cc4a7e9e24867b0dfdf25b", "avatar", 1, object{
		"businessId": "75f15294e55540e198bb19cc0a068fd2",
		"avatarResult": []object{
			{"templateId": "studio-portrait", "images": []object{image("a1", "one.png", false), image("a2", "two.png", false), image("a3", "three.png", true)}},
			{"templateId": "night-city", "images": []object{image("b1", "four.png", false), image("b2", "gone.png", false)}},
		},
		"resultUrl":        "https://example.com/results/39371b38.zip",
		"creditsIncrement": 4,
	}))
	g.await("pending", 0)
	for _, body := range []string{
		`{"taskId": "", "type": "avatar", "status": 7}`, `{"taskId": "x", "type": 4}`, `not json`,
		`{"taskId":"5b1f","type":"avatar","status":"done","avatarResult":[{"images":[{"id":7}]}]}`,
	} {
		g.post(body)
	}
	return map[string]string{
		"overview": "", "events": "events", "events-dead": "events?state=dead", "events-none": "events?task=nothing",
		"event": "event?id=" + id, "problems": "problems", "quarantined": "quarantined?id=4",
		"whitelist": "whitelist", "whitelist-explain": "whitelist?ip=192.0.2.7", "missing": "event?id=0", "error": "events?state=x",
	}
}

// Each page in each look fits its window: nothing is cut off at the side. And each is fit for
// those who do not see it, or not as most do.
//
// With SCREENSHOTS=<folder> there is a picture of each afterwards. Look at them.
func TestPagesFitTheirWindow(t *testing.T) {
	g, pages := lively(t)
	fit(t, g, pages)
}

// fit has pages looked at in each look.
func fit(t *testing.T, g *gateway, pages map[string]string) {
	t.Helper()
	folder := os.Getenv("SCREENSHOTS")
	for name, l := range map[string]look{
		"desktop-light": desktop, "desktop-dark": {Width: 1280, Height: 900, Dark: true},
		"phone-light": phone, "phone-dark": {Width: 390, Height: 844, Dark: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := browse(t, l)
			b.allow("404")
			b.allow("400")
			for page, path := range pages {
				b.open(g.Dashboard + path)
				eval[any](b, `document.querySelectorAll("img").forEach((i) => { i.loading = "eager" }); 0`)
				b.wait(`[...document.images].every((i) => i.complete)`)
				require.LessOrEqual(t, eval[int64](b, "document.documentElement.scrollWidth"), l.Width, page)
				b.accessible(page)
				if folder != "" {
					picture, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
					require.NoError(t, err)
					require.NoError(t, os.MkdirAll(folder, 0o755))
					file := filepath.Join(folder, strings.Join([]string{page, name}, "-")+".png")
					require.NoError(t, os.WriteFile(file, picture, 0o600))
				}
			}
		})
	}
}
