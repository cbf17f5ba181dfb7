package main

import "context"

// company is who uses a server beside the load.
type company struct {
	operator *operator
	browsers *browsers
}

// accompany begins what a contender is measured with beside the load.
func (s *server) accompany(ctx context.Context, c *contender) (with company, err error) {
	if c.browsers > 0 {
		if with.browsers, err = s.browse(ctx, c.browsers); err != nil {
			return with, err
		}
	}
	if c.operated {
		with.operator = s.operate(ctx)
	}
	return with, nil
}

// stop ends it, and returns what went wrong.
func (with company) stop() faults {
	found := make(faults)
	if with.operator != nil {
		found.merge(with.operator.stop())
	}
	if with.browsers != nil {
		found.merge(with.browsers.stop())
		progress("%s", with.browsers)
	}
	return found
}

// replayed is how many events were delivered again.
func (with company) replayed() int64 {
	if with.operator == nil {
		return 0
	}
	return with.operator.replayed.Load()
}
