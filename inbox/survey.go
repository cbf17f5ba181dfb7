package inbox

import "context"

// Surveyor is what a Module can be besides if inboxes of its kind can be looked
// at while no handler has them.
type Surveyor interface {
	// Survey looks at the inboxes in the place where the module keeps them
	// unless told otherwise, and at those of the keys that are its own. It
	// returns those that hold something and that nobody has open, here or in
	// another process, in the order of their keys. It changes nothing and takes
	// no lock. What is no inbox is passed over.
	//
	// The number of files that it looks at is bounded; more reports that there
	// are others.
	Survey(ctx context.Context, keys []string) (found []Unattended, more bool, err error)
}

// Unattended is an inbox that no handler has.
type Unattended struct {
	// Key is what Module.Key would return for it.
	Key string

	// What it holds.
	Pending, Dead, Quarantined int64

	// Err says why it cannot be looked at.
	Err error
}
