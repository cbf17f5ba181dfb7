package mock

import "github.com/fotor-webhook/caddy-fotor-webhook/internal/sample"

// What the stand-in says of tasks.
type (
	Object = sample.Object
	Kind   = sample.Kind
)

// Task statuses of Fotor.
const (
	InProgress = sample.InProgress
	Completed  = sample.Completed
	Failed     = sample.Failed
)
