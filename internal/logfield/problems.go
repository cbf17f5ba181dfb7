package logfield

import (
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/fotor-webhook/caddy-fotor-webhook/callback"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/clip"
)

const (
	// maxProblems bounds what one callback adds to the log; the quarantine has all problems.
	maxProblems = 5

	// maxPointer is the length in bytes to which a pointer is cut: it may have names of
	// members that Fotor does not document, which are the sender's own text.
	maxPointer = 100
)

// Problems returns the field with the first problems of a callback.
func Problems(all []callback.Problem) zap.Field { return zap.Array("problems", problems(all)) }

type problems []callback.Problem

// MarshalLogArray implements zapcore.ArrayMarshaler.
func (p problems) MarshalLogArray(enc zapcore.ArrayEncoder) error {
	for _, problem := range p[:min(len(p), maxProblems)] {
		enc.AppendString(clip.Ellipsis(clip.Ellipsis(problem.Pointer, maxPointer)+": "+problem.Detail, maxText))
	}
	return nil
}
