package gateway

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

const (
	// emitBatch is how many notices are turned into Caddy events at a time.
	// emitPause is the wait for more: waking up for each would cost more than the
	// events.
	emitBatch = 256
	emitPause = 20 * time.Millisecond
)

// emitAll turns notices into Caddy events until ctx is done and none is left.
// Handlers of Caddy events run here, one after the other, and so delay no callback: one
// that is too slow misses events.
func (j *Journal) emitAll(ctx context.Context, follower *control.Follower) {
	defer follower.Close()
	entries := make([]control.Entry, 0, emitBatch)
	for {
		var err error
		entries, err = follower.Next(ctx, entries[:0], emitBatch)
		if err != nil {
			return
		}
		for i := range entries {
			j.emit(&entries[i].Notice)
		}
		if len(entries) < emitBatch {
			select {
			case <-time.After(emitPause):
			case <-ctx.Done():
			}
		}
	}
}

// eventNames are the names of the Caddy events by the kinds of notices. The
// other kinds have none.
var eventNames = map[string]string{
	control.Accepted:     "fotor_webhook.accepted",
	control.Delivered:    "fotor_webhook.delivered",
	control.Dead:         "fotor_webhook.dead",
	control.Lost:         "fotor_webhook.lost",
	control.Held:         "fotor_webhook.held",
	control.Resumed:      "fotor_webhook.resumed",
	control.InQuarantine: "fotor_webhook.quarantined",
}

func (j *Journal) emit(n *control.Notice) {
	c := j.config.Load()
	if n.Kind == control.Gap {
		c.Metrics.NoticesDropped(n.Missed)
		c.Logger.Warn("handlers of Caddy events are too slow; they have missed some", zap.Int64("missed", n.Missed))
		return
	}
	name, ok := eventNames[n.Kind]
	if !ok || !c.Events.ShouldEmit(name) {
		return
	}
	defer func() { // a panic in another module must not end the process
		if fault := recover(); fault != nil {
			c.Logger.Error("panic in a handler of Caddy events", zap.String("event", name), zap.Any("panic", fault))
		}
	}()
	c.Events.Emit(name, eventData(n))
}

// eventData is what a Caddy event carries: the placeholders {event.data.*}.
func eventData(n *control.Notice) map[string]any {
	data := map[string]any{"handler": n.Handler, "time": n.At.Format(time.RFC3339Nano)}
	text := func(name, value string) {
		if value != "" {
			data[name] = value
		}
	}
	text("id", n.ID)
	text("task_id", n.TaskID)
	text("type", n.Type)
	text("status", n.Status)
	text("origin", n.Origin)
	text("destination", n.Destination)
	text("source_ip", n.SourceIP)
	text("reason", n.Reason)
	text("by", n.By)
	if n.Until != nil {
		data["until"] = n.Until.Format(time.RFC3339Nano)
	}
	if n.Attempt > 0 {
		data["attempt"] = n.Attempt
		data["upstream_status"] = n.UpstreamStatus
	}
	if n.Since != nil {
		data["since"] = n.Since.Format(time.RFC3339Nano)
		data["asked"] = n.Asked
	}
	if n.Kind == control.InQuarantine {
		data["quarantine_id"] = n.QuarantineID
		data["count"] = n.Count
		data["problems"] = n.Problems
	}
	return data
}
