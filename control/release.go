package control

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// Releases is the release from quarantine of all callbacks that are chosen.
type Releases struct {
	Gateway Gateway

	// Only chooses callbacks; it gets them as in a list.
	Only func(*Quarantined) bool

	// Deadline is when no more are begun; zero is none.
	Deadline time.Time

	// Cursor is where to go on; "" begins with the callbacks that arrived last.
	Cursor string

	// Released counts the callbacks that are events now, Duplicates those of them that
	// were events before, Invalid those that are still not valid, and Gone those that
	// somebody else took meanwhile.
	Released, Duplicates, Invalid, Gone int64
}

// Run releases the callbacks, page by page, and those of a page in the order in which they
// arrived. It returns where to go on, "" if there is no more to do.
func (r *Releases) Run(ctx context.Context) (next string, err error) {
	page := inbox.Page{Limit: inbox.MaxPage, Cursor: r.Cursor}
	for {
		list, err := ListQuarantine(ctx, r.Gateway.Inbox(), page)
		if err != nil {
			return page.Cursor, err
		}
		for _, callback := range slices.Backward(list.Callbacks) {
			if !r.Only(&callback) {
				continue
			}
			if err := r.release(ctx, callback.ID); err != nil {
				return page.Cursor, err
			}
		}
		page.Cursor = list.Next
		if page.Cursor == "" || !r.Deadline.IsZero() && !time.Now().Before(r.Deadline) {
			return page.Cursor, nil
		}
	}
}

func (r *Releases) release(ctx context.Context, id int64) error {
	released, err := r.Gateway.Release(ctx, id)
	_, invalid := errors.AsType[*InvalidError](err)
	switch {
	case invalid:
		r.Invalid++
	case errors.Is(err, inbox.ErrNotFound):
		r.Gone++
	case err != nil:
		return err
	default:
		r.Released++
		if released.Duplicate {
			r.Duplicates++
		}
	}
	return nil
}
