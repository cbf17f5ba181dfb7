package gateway

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"go.uber.org/zap"
	zaplog "go.uber.org/zap/zaptest/observer"

	"github.com/fotor-webhook/caddy-fotor-webhook/dispatch"
)

func TestHoldsAreLogged(t *testing.T) {
	since := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	until := since.Add(time.Hour)
	trouble := dispatch.Holding{Since: since, Until: until, Reason: "connection refused"}
	byHand := dispatch.Holding{ByHand: true, Since: since, Until: until, Reason: "maintenance"}
	endless := dispatch.Holding{ByHand: true, Since: since}

	core, log := zaplog.New(zap.DebugLevel)
	o := observer{logger: zap.New(core), destination: "app", journal: journals.get(t.Name())}
	defer journals.put(o.journal)
	o.Held(trouble)
	o.Resumed(trouble, time.Minute)
	o.Held(byHand)
	o.Held(endless)
	o.Resumed(byHand, time.Minute)

	type line struct {
		level, text string
		fields      map[string]any
	}
	var lines []line
	for _, l := range log.All() {
		lines = append(lines, line{l.Level.String(), l.Message, l.ContextMap()})
	}
	assert.Equal(t, []line{
		{"warn", "upstream is in trouble; deliveries are held", map[string]any{"until": until, "reason": "connection refused"}},
		{"info", "upstream is back; deliveries go on", map[string]any{"held": time.Minute}},
		{"info", "deliveries are held by hand", map[string]any{"since": since, "until": until, "reason": "maintenance"}},
		{"info", "deliveries are held by hand", map[string]any{"since": since, "reason": ""}},
		{"info", "hold by hand ended; deliveries go on", map[string]any{"held": time.Minute}},
	}, lines)
}
