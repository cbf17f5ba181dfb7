package callback

import (
	"crypto/sha256"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// Outcome returns what stands for all that the callback says in documented fields, as the
// event has them: after null, absent members, escapes, map_status and result_url made no
// difference any more. So it may be the same for what Fotor called and what its API says
// of the task, though these have different undocumented fields, and different ids.
//
// The status counts as a number and as a word, because both are in the event, and the
// meaning of a number may change with the config. A hasHsfw of the whole task does not
// count: it is not documented there, and one of the two may not have it.
func (c *Callback) Outcome() (k inbox.OutcomeKey) {
	scratch := takeScratch()
	scratch.b = c.appendDocumented(scratch.b, false)
	sum := sha256.Sum256(scratch.b)
	scratch.free()
	copy(k[:], sum[:])
	return k
}
