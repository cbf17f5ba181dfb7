package fotorwebhook

import (
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
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
