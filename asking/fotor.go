package asking

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/fotorapi"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/secret"
	"github.com/fotor-webhook/caddy-fotor-webhook/reconcile"
)

// budgets are those of all accounts that are in use: a reload does not begin anew what was
// learnt about the rate, and handlers of one account share it.
var budgets fotorapi.Budgets

// Fotor puts questions as a config says. It must be closed.
type Fotor struct {
	client    *fotorapi.Client
	budget    *fotorapi.User
	transport *reverseproxy.HTTPTransport
	target    string
}

// Provision makes what puts the questions. It uses no network. The defaults of the config
// must be set. Errors do not show the key.
func (c *Config) Provision(ctx caddy.Context) (*Fotor, error) {
	f, err := c.provision(ctx)
	if err != nil {
		return nil, fmt.Errorf("fotor_api: %w", err)
	}
	return f, nil
}

func (c *Config) provision(ctx caddy.Context) (*Fotor, error) {
	if c.Key == "" {
		return nil, errors.New("key is missing: expected an API key of Fotor's, such as {env.FOTOR_API_KEY}")
	}
	key, err := secret.Resolve(c.Key)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	base, err := secret.Resolve(c.URL)
	if err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	module, err := ctx.LoadModule(c, "TransportRaw")
	if err != nil {
		return nil, fmt.Errorf("transport: %w", err)
	}
	transport, ok := module.(*reverseproxy.HTTPTransport)
	if !ok {
		return nil, fmt.Errorf("transport: the module %T cannot be used: expected http", module)
	}
	client, err := fotorapi.New(fotorapi.Config{URL: base, Key: key, Transport: transport, Budget: unlimited{}})
	if err != nil {
		return nil, err
	}
	if inTheOpen(base) {
		ctx.Logger().Warn("fotor_api: the key goes over plain http to another host, and who is between can read it", zap.String("url", target(base)))
	}
	return &Fotor{
		client: client, transport: transport, target: target(base),
		budget: budgets.Use(client.Account(), c.Rate),
	}, nil
}

// target returns the scheme and host of a URL: a path may be a secret.
func target(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// inTheOpen reports whether what is sent to a URL can be read on its way to another host.
func inTheOpen(base string) bool {
	u, err := url.Parse(base)
	if err != nil || !strings.EqualFold(u.Scheme, "http") {
		return false
	}
	host := strings.ToLower(u.Hostname())
	addr, err := netip.ParseAddr(host)
	return host != "localhost" && !strings.HasSuffix(host, ".localhost") && (err != nil || !addr.Unmap().IsLoopback())
}

// unlimited is the client's budget: turns come from that of the account.
type unlimited struct{}

// Wait implements fotorapi.Budget.
func (unlimited) Wait(context.Context) (done func(error), err error) { return func(error) {}, nil }

// Rate implements fotorapi.Budget.
func (unlimited) Rate() float64 { return fotorapi.MaxRate }

// Close gives up the account's budget and idle connections.
func (f *Fotor) Close() {
	f.budget.Release()
	f.transport.Transport.CloseIdleConnections()
}

// Target returns the scheme and host that is asked.
func (f *Fotor) Target() string { return f.target }

// Rate returns the questions a second that are put at most at the moment.
func (f *Fotor) Rate() float64 { return f.budget.Rate() }

// Account stands for the account that is asked; it is no secret.
func (f *Fotor) Account() string { return f.client.Account() }

// Limit sets how many questions a second are put at most, if that is less than the config's
// rate.
func (f *Fotor) Limit(rate float64) { f.budget.Limit(rate) }

// Turn implements reconcile.Asker.
func (f *Fotor) Turn(ctx context.Context) (reconcile.Turn, error) {
	done, err := f.budget.Wait(ctx)
	if err != nil {
		return nil, err
	}
	return turn{f.client, done}, nil
}

type turn struct {
	client *fotorapi.Client
	done   func(error)
}

// errUnused tells the budget nothing of what Fotor bears.
var errUnused = errors.New("not asked")

// Unused implements reconcile.Turn.
func (t turn) Unused() { t.done(errUnused) }

// Ask implements reconcile.Turn.
func (t turn) Ask(ctx context.Context, taskID string) ([]byte, error) {
	ctx = context.WithValue(ctx, caddy.ReplacerCtxKey, caddy.NewReplacer()) // some settings of the transport need it
	answer, err := t.client.Task(ctx, taskID)
	t.done(err)
	if err == nil {
		return answer.Data, nil
	}
	if meaning := meanings[fotorapi.KindOf(err)]; meaning != nil {
		return nil, fmt.Errorf("%w: %w", meaning, err)
	}
	return nil, err
}

// meanings are what errors of the client are for who asks; those without one are trouble.
var meanings = map[fotorapi.Kind]error{
	fotorapi.Unauthorized: reconcile.ErrKeyRefused,
	fotorapi.TooOften:     reconcile.ErrTooOften,
	fotorapi.NotKnown:     reconcile.ErrNotKnown,
	fotorapi.OtherTask:    reconcile.ErrUnusable,
	fotorapi.Unusable:     reconcile.ErrUnusable,
	fotorapi.Unaskable:    reconcile.ErrUnaskable,
}

// Interface guards
var (
	_ reconcile.Asker = (*Fotor)(nil)
	_ reconcile.Turn  = turn{}
	_ fotorapi.Budget = unlimited{}
)
