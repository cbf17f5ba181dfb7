package inbox

import "context"

// Surveyor is implemented by a Module whose inboxes can be inspected while no
// handler uses them.
type Surveyor interface {
	// Survey inspects the inboxes in the module's default place and those of
	// the keys that belong to the module. It returns, in the order of their
	// keys, those that are not empty and that nobody has open, here or in
	// another process. It changes nothing and takes no lock. Files that are not
	// inboxes are skipped.
	//
	// The number of files inspected is bounded; more reports that there are
	// others.
	Survey(ctx context.Context, keys []string) (found []Unattended, more bool, err error)
}

// Unattended is an inbox that no handler uses.
type Unattended struct {
	// Key is what Module.Key would return for it.
	Key string

	// The number of events and callbacks in it.
	Pending, Dead, Quarantined int64

	// Tracked is the number of tasks whose final events have not come, see Tracker.
	Tracked int64

	// Err says why it could not be inspected.
	Err error
}
