package gateway

import (
	"context"
	"slices"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/reconcile"
)

// share is the part of an account's rate that a gateway of a shared inbox has. Configs that
// follow each other have one, so that a reload does not make the gateway a newcomer.
type share struct {
	*reconcile.Share
	account string
	logger  *zap.Logger
	users   int // askers; guarded by gateway.mu
	cancel  context.CancelFunc
	ended   chan struct{} // nil before it runs
}

// joinShare returns the share for the account of a config, nil if the inbox is not shared.
// leaveShare must be called for it. The caller has locked g.mu.
func (g *Gateway) joinShare(c *Config) *share {
	registry, ok := g.inbox.(inbox.AskerRegistry)
	if !ok {
		return nil
	}
	account := c.Asking.Fotor.Account()
	i := slices.IndexFunc(g.shares, func(s *share) bool { return s.account == account })
	if i < 0 {
		s := &share{account: account, logger: c.Logger}
		s.Share = reconcile.NewShare(registry, account, s.changed)
		i, g.shares = len(g.shares), append(g.shares, s)
	}
	g.shares[i].users++
	return g.shares[i]
}

// leaveShare ends the use of a share. The last one unregisters.
func (g *Gateway) leaveShare(s *share) {
	if s == nil {
		return
	}
	g.mu.Lock()
	s.users--
	last := s.users == 0
	if last {
		g.shares = slices.DeleteFunc(g.shares, func(other *share) bool { return other == s })
	}
	g.mu.Unlock()
	if last {
		s.cancel()
		<-s.ended
	}
}

// run begins to register, unless it has begun. The caller has locked g.mu.
func (s *share) run() {
	if s.ended != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel, s.ended = cancel, make(chan struct{})
	go func() {
		defer close(s.ended)
		s.Run(ctx)
	}()
}

// changed says that others have come or gone, or that nothing may be asked.
func (s *share) changed(state reconcile.ShareState) {
	switch {
	case state.Reason != nil:
		s.logger.Warn("Fotor is not asked while it cannot be told to the other Caddys that share the rate", zap.Error(state.Reason))
	case !state.Open:
		s.logger.Info("Fotor is asked in a few seconds, when other Caddys know that the rate is to be shared", zap.Int("caddys", state.Askers))
	default:
		s.logger.Info("Fotor is asked at this Caddy's part of the rate", zap.Int("caddys", state.Askers), zap.Float64("rate", state.Rate))
	}
}

// tell completes what operators are told of asking Fotor.
func (s *share) tell(a *control.Asking) {
	if s == nil {
		return
	}
	state := s.State()
	a.Share = &control.AskingShare{Askers: state.Askers}
	if state.Open {
		a.Share.Rate = state.Rate
		return
	}
	a.Rate = 0
	if state.Reason != nil {
		a.Share.Reason = state.Reason.Error()
	}
}
