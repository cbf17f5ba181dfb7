package logfield

import (
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/fotor-webhook/caddy-fotor-webhook/callback"
)

// maxProblems bounds what one callback adds to the log; the quarantine has all problems.
const maxProblems = 5

// Problems returns the field with the first problems of a callback.
func Problems(all []callback.Problem) zap.Field { return zap.Array("problems", problems(all)) }

type problems []callback.Problem

// MarshalLogArray implements zapcore.ArrayMarshaler.
func (p problems) MarshalLogArray(enc zapcore.ArrayEncoder) error {
	for _, problem := range p[:min(len(p), maxProblems)] {
		enc.AppendString(Cut(problem.Pointer + ": " + problem.Detail))
	}
	return nil
}
