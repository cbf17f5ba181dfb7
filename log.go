package fotorwebhook

import (
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/fotor-webhook/caddy-fotor-webhook/callback"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// Refusals are what strangers can cause, so their lines are sampled: this many
// a second, then one in so many.
const (
	refusalsLogged  = 10
	refusalsSkipped = 1000
)

func sampled(logger *zap.Logger) *zap.Logger {
	return logger.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
		return zapcore.NewSamplerWithOptions(core, time.Second, refusalsLogged, refusalsSkipped)
	}))
}

// eventFields names the event in a log line. What comes from outside is cut,
// so that a line stays a line.
func eventFields(e *inbox.Event, more ...zap.Field) []zap.Field {
	return append([]zap.Field{
		zap.String("event_id", e.ID),
		zap.String("task_id", cut(e.TaskID)),
		zap.String("type", cut(e.Type)),
		zap.Stringer("status", e.Status),
	}, more...)
}

// maxLogged is the length in bytes to which a logged text from outside is cut.
const maxLogged = 256

func cut(s string) string {
	if len(s) <= maxLogged {
		return s
	}
	return s[:maxLogged] + "…"
}

// maxLoggedProblems bounds what one invalid callback adds to the log; the
// quarantine has all of them.
const maxLoggedProblems = 5

type logProblems []callback.Problem

// MarshalLogArray implements zapcore.ArrayMarshaler.
func (p logProblems) MarshalLogArray(enc zapcore.ArrayEncoder) error {
	for _, problem := range p[:min(len(p), maxLoggedProblems)] {
		enc.AppendString(cut(problem.Pointer + ": " + problem.Detail))
	}
	return nil
}
