package fotorwebhook

import (
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/fotor-webhook/caddy-fotor-webhook/callback"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/logfield"
)

// Strangers can cause refusals, so their log lines are sampled: so many of each kind
// a second, and then one in so many.
const (
	refusalsLogged  = 10
	refusalsSkipped = 1000
)

func sampled(logger *zap.Logger) *zap.Logger {
	return logger.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
		return zapcore.NewSamplerWithOptions(core, time.Second, refusalsLogged, refusalsSkipped)
	}))
}

// maxLoggedProblems bounds what one invalid callback adds to the log; the
// quarantine has all of them.
const maxLoggedProblems = 5

type logProblems []callback.Problem

// MarshalLogArray implements zapcore.ArrayMarshaler.
func (p logProblems) MarshalLogArray(enc zapcore.ArrayEncoder) error {
	for _, problem := range p[:min(len(p), maxLoggedProblems)] {
		enc.AppendString(logfield.Cut(problem.Pointer + ": " + problem.Detail))
	}
	return nil
}
