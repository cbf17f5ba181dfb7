package browsertest

import (
	"bytes"
	"encoding/json"
	"image"
	"image/color"
	"image/png"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// upstream is the service that events go to, and where their images are.
type upstream struct {
	*httptest.Server

	mu       sync.Mutex
	failing  map[string]string // what tasks of a type are answered with 500
	requests []*http.Request   // for images
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{failing: make(map[string]string)}
	u.Server = httptest.NewServer(u)
	t.Cleanup(u.Close)
	return u
}

// fail has tasks of that type answered 500 with a text; with "" they are taken again.
func (u *upstream) fail(taskType, text string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.failing[taskType] = text
}

// images returns the requests for images so far.
func (u *upstream) images() []*http.Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]*http.Request(nil), u.requests...)
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		u.serveImage(w, r)
		return
	}
	var event struct {
		Type string `json:"type"`
	}
	if err := json.NewDecoder(r.Body).Decode(&event); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	u.mu.Lock()
	text := u.failing[event.Type]
	u.mu.Unlock()
	if text != "" {
		http.Error(w, text, http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// serveImage answers with a picture that depends on the path; nothing is at one with gone.
func (u *upstream) serveImage(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	u.requests = append(u.requests, r)
	u.mu.Unlock()
	if strings.Contains(r.URL.Path, "gone") {
		http.NotFound(w, r)
		return
	}
	seed := 0.0
	for _, c := range r.URL.Path {
		seed += float64(c)
	}
	const size = 240
	picture := image.NewRGBA(image.Rect(0, 0, size, size))
	for y := range size {
		for x := range size {
			dx, dy := float64(x)-size/2, float64(y)-size*0.42
			c := color.RGBA{uint8(90 + 60*math.Sin(seed)), uint8(120 + y/4), uint8(150 + 60*math.Cos(seed)), 255}
			if dx*dx/0.7+dy*dy < 3600 || dy > 40 && dx*dx+(dy-140)*(dy-140) < 8100 { // a head and shoulders
				c = color.RGBA{uint8(220 - y/4), uint8(170 + 20*math.Sin(seed)), 140, 255}
			}
			picture.SetRGBA(x, y, c)
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, picture); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "image/png")
	w.Header().Set("Set-Cookie", "tracking=1")
	_, _ = w.Write(b.Bytes())
}
