package dispatch

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// Whatever happens in whatever order, no attempt is permitted during a pause or a
// hold by hand, no two probes are made at once, and no pause is longer than allowed.
func TestAHoldIsNeverBroken(t *testing.T) {
	results := []Result{
		ok, down, sick,
		{Status: 404},
		{Status: 410},
		{Status: 429},
		{Cancelled: true},
		{Status: 429, RetryAfter: time.Second},
		{Status: 503, RetryAfter: time.Hour},
		{Status: 500, RetryAfter: time.Hour},
	}
	rapid.Check(t, func(t *rapid.T) {
		random := rapid.SampledFrom([]float64{0, 0.5, 0.999}).Draw(t, "random")
		h := hold{max: time.Minute, random: func() float64 { return random }}
		now := epoch
		var out []ticket
		probes := func() (all, current int) {
			for _, o := range out {
				if o.probe {
					all++
					if o.era == h.era {
						current++
					}
				}
			}
			return all, current
		}
		t.Repeat(map[string]func(*rapid.T){
			"enter": func(t *rapid.T) {
				held, until := h.held, h.until
				tk, granted := h.enter(false, now)
				if granted {
					out = append(out, tk)
				}
				switch {
				case h.hand.set() && granted:
					t.Fatal("granted during a hold by hand")
				case h.hand.set():
				case !held && !granted:
					t.Fatal("refused though not held")
				case held && granted && now.Before(until):
					t.Fatal("granted during the pause")
				case granted && tk.probe != held:
					t.Fatalf("probe: %t, held: %t", tk.probe, held)
				}
			},
			"leave": func(t *rapid.T) {
				if len(out) == 0 {
					t.Skip("nobody is under way")
				}
				i := rapid.IntRange(0, len(out)-1).Draw(t, "which")
				r := rapid.SampledFrom(results).Draw(t, "result")
				held := h.held
				e := h.leave(out[i], rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "task"), &r, now)
				out = append(out[:i], out[i+1:]...)
				if e.began != (!held && h.held) || e.ended != (held && !h.held) {
					t.Fatalf("held before: %t, after: %t, but %+v", held, h.held, e)
				}
				if h.hand.set() && (e.began || e.ended) {
					t.Fatal("the destination was judged during a hold by hand")
				}
				if h.hand.set() && r.kind() == trouble && !e.atOnce {
					t.Fatal("trouble during a hold by hand was spent, or waits for longer")
				}
				if held && !e.ended && r.kind() == trouble && !e.release {
					t.Fatal("trouble during a hold was spent")
				}
				if e.release && r.kind() != trouble {
					t.Fatal("an answer was handed back")
				}
			},
			"pass": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "time")))
			},
			"by hand": func(*rapid.T) { h.pauseByHand(inbox.Hold{Since: now}, now) },
			"resume": func(*rapid.T) {
				if h.hand.set() {
					h.endByHand(now)
				}
				h.renew(time.Minute, now)
			},
			"peer trouble": func(t *rapid.T) {
				lasts := time.Duration(rapid.Int64Range(0, int64(2*time.Minute)).Draw(t, "lasts"))
				held, doubtsPeers := h.held, h.doubtsPeers
				e := h.peerTrouble(inbox.Trouble{Until: now.Add(lasts)}, now)
				if e.began != (!held && h.held) || e.ended || (e.began && doubtsPeers) {
					t.Fatalf("held before: %t, after: %t, doubtsPeers: %t, but %+v", held, h.held, doubtsPeers, e)
				}
			},
			"peer well": func(t *rapid.T) {
				fromPeer := h.held && h.fromPeer
				if e := h.peerWell(now); e.ended != fromPeer || (fromPeer && h.held) {
					t.Fatalf("from a peer: %t, but %+v", fromPeer, e)
				}
			},
			"renew": func(*rapid.T) { h.renew(time.Minute, now) },
			"": func(t *rapid.T) {
				all, current := probes()
				if all > maxProbes || current > 1 {
					t.Fatalf("%d probes under way, %d of this era", all, current)
				}
				if all != h.probes || h.probing != (current == 1) {
					t.Fatalf("%d probes under way, %d of this era; the hold counts %d, %t", all, current, h.probes, h.probing)
				}
				if h.held && h.until.After(now.Add(time.Minute)) {
					t.Fatalf("a pause of %s", h.until.Sub(now))
				}
			},
		})
	})
}
