package sqlite

import "context"

// op is what a caller asks the writer to do.
type op interface {
	base() *request

	// apply makes the op's changes in the transaction and leaves its answer in
	// the op. An error means that the transaction has failed; a refusal is
	// left in the request's err, with nothing changed. It may be called again
	// if the transaction was rolled back.
	apply(t *tx) error

	// grows reports whether the op takes room for good, so that it must wait
	// when the disk is full.
	grows() bool
}

// request is the part that every op has.
type request struct {
	ctx  context.Context //nolint:containedctx // it goes to the writer and back
	err  error
	done chan struct{}
}

func newRequest(ctx context.Context) request {
	return request{ctx: ctx, done: make(chan struct{}, 1)}
}

func (r *request) base() *request { return r }

// finish gives the answer. The op belongs to its caller again.
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
