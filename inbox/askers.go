package inbox

import (
	"context"
	"time"
)

// Asker is one who asks Fotor for the tasks of an inbox.
type Asker struct {
	// Account stands for the account that is asked, of which Fotor limits the rate: 1 to 64
	// digits and lower-case letters. It is no secret.
	Account string

	// Rate is how many questions a second all who ask may put together, as the config of
	// this one says; more than 0.
	Rate float64
}

// Askers are those who ask for one account.
type Askers struct {
	// Count is their number, at least 1.
	Count int

	// Rate is the lowest of their rates.
	Rate float64
}

// AskerLife is how long a registration in an AskerRegistry lasts. It is measured where the
// inbox is stored, so that the clocks of those who ask need not agree.
const AskerLife = 8 * time.Second

// AskerRegistry is implemented by an Inbox that several gateways can use at once, so that
// they can share the rate at which an account may be asked. It counts each open inbox once
// for each account.
type AskerRegistry interface {
	// Register stores for AskerLife that this one asks, in place of what it registered
	// before for the account. Then it returns who is registered for that, itself included:
	// all whose Register had returned before this one was called, unless AskerLife has
	// passed since, or they called Unregister.
	Register(ctx context.Context, a Asker) (Askers, error)

	// Unregister says that this one does not ask for an account any more.
	Unregister(ctx context.Context, account string) error
}
