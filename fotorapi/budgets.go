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
	rates  map[*User]float64 // that they would ask at
}

// User is one who uses the budget of an account.
type User struct {
	*Adaptive

	budgets *Budgets
	shared  *sharedBudget
	account string
	rate    float64
}

// Use returns the budget of an account, see AccountOf, for one who would ask at that rate. If
// several use it, the lowest of their rates counts. After the last has called Release, what
// the budget has learnt is forgotten: a reload lets the new config use it before the old one
// releases it.
func (b *Budgets) Use(account string, rate float64) *User {
	b.mu.Lock()
	defer b.mu.Unlock()
	shared := b.accounts[account]
	if shared == nil {
		shared = &sharedBudget{budget: NewAdaptive(rate), rates: make(map[*User]float64)}
		if b.accounts == nil {
			b.accounts = make(map[string]*sharedBudget)
		}
		b.accounts[account] = shared
	}
	u := &User{Adaptive: shared.budget, budgets: b, shared: shared, account: account, rate: withinLimits(rate)}
	shared.rates[u] = u.rate
	shared.setRate()
	return u
}

// Limit sets at what rate the user would ask, at most that of its Use: it has only a share of
// that as others ask for the same account elsewhere. It does nothing after Release.
func (u *User) Limit(rate float64) {
	u.budgets.mu.Lock()
	defer u.budgets.mu.Unlock()
	limited := min(u.rate, withinLimits(rate))
	if now, ok := u.shared.rates[u]; ok && now != limited {
		u.shared.rates[u] = limited
		u.shared.setRate()
	}
}

// Release ends the use of the budget. Calls after the first do nothing.
func (u *User) Release() {
	u.budgets.mu.Lock()
	defer u.budgets.mu.Unlock()
	if _, ok := u.shared.rates[u]; !ok {
		return
	}
	delete(u.shared.rates, u)
	if len(u.shared.rates) == 0 {
		delete(u.budgets.accounts, u.account)
		return
	}
	u.shared.setRate()
}

// setRate gives the budget the lowest rate of its users.
func (s *sharedBudget) setRate() {
	lowest := MaxRate
	for _, rate := range s.rates {
		lowest = min(lowest, rate)
	}
	s.budget.SetRate(lowest)
}
