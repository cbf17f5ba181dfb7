package sqlite

import "context"

// op is a request to the writer.
type op interface {
	base() *request

	// apply makes the changes in the transaction and stores the result in the
	// op. An error means that the transaction failed. If the op is refused,
	// apply changes nothing and sets the request's err. apply may be called
	// again after a rollback.
	apply(t *tx) error

	// grows reports whether the op needs room for good, so that it must wait
	// when the disk is full.
	grows() bool
}

// request is common to all ops.
type request struct {
	ctx  context.Context //nolint:containedctx // the writer checks it before it applies the op
	err  error
	done chan struct{}
}

func newRequest(ctx context.Context) request {
	return request{ctx: ctx, done: make(chan struct{}, 1)}
}

func (r *request) base() *request { return r }

// finish reports the result. From here on the op belongs to its caller again.
func (r *request) finish() { r.done <- struct{}{} }

func (r *request) fail(err error) {
	r.err = err
	r.finish()
}

func answer(ops []op) {
	for _, o := range ops {
		o.base().finish()
	}
}

func fail(ops []op, err error) {
	for _, o := range ops {
		o.base().fail(err)
	}
}
