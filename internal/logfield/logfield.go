// Package logfield makes log fields of texts from outside, which are cut so that lines
// stay short.
package logfield

import (
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/clip"
)

// maxText is the length in bytes to which a logged text from outside is cut.
const maxText = 256

// Cut bounds a text from outside.
func Cut(s string) string { return clip.Ellipsis(s, maxText) }

// Event returns the fields that name an event, followed by more.
func Event(e *inbox.Event, more ...zap.Field) []zap.Field {
	return append([]zap.Field{
		zap.String("event_id", e.ID),
		zap.String("task_id", Cut(e.TaskID)),
		zap.String("type", Cut(e.Type)),
		zap.Stringer("status", e.Status),
	}, more...)
}
