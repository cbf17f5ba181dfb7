package fotorapi

import "sync"

// Budgets are the budgets of accounts: clients of one account, be they of several handlers or
// of the configs before and after a reload, share one. The zero value is ready.
type Budgets struct {
	mu       sync.Mutex
	accounts map[string]*sharedBudget
}

type sharedBudget struct {
	budget *Adaptive
	rates  map[int]float64 // of those who use it
	next   int             // key of rates
}

// Use returns the budget of an account, see AccountOf, for one who would ask at that rate. If
// several use it, the lowest of their rates counts. After the last has called release, what
// the budget has learnt is forgotten: a reload lets the new config use it before the old one
// releases it. Calls of release after the first do nothing.
func (b *Budgets) Use(account string, rate float64) (budget *Adaptive, release func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	shared := b.accounts[account]
	if shared == nil {
		shared = &sharedBudget{budget: NewAdaptive(rate), rates: make(map[int]float64)}
		if b.accounts == nil {
			b.accounts = make(map[string]*sharedBudget)
		}
		b.accounts[account] = shared
	}
	user := shared.next
	shared.next++
	shared.rates[user] = withinLimits(rate)
	shared.setRate()
	return shared.budget, sync.OnceFunc(func() { b.release(account, shared, user) })
}

func (b *Budgets) release(account string, shared *sharedBudget, user int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(shared.rates, user)
	if len(shared.rates) == 0 {
		delete(b.accounts, account)
		return
	}
	shared.setRate()
}

// setRate gives the budget the lowest rate of its users.
func (s *sharedBudget) setRate() {
	lowest := MaxRate
	for _, rate := range s.rates {
		lowest = min(lowest, rate)
	}
	s.budget.SetRate(lowest)
}
