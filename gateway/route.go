package gateway

import (
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/logfield"
	"github.com/fotor-webhook/caddy-fotor-webhook/match"
)

// routes decide to which destinations of a config an event goes. Nil routes send it to
// the default destination.
type routes struct {
	logger       *zap.Logger
	destinations []route
}

// route is the way to one destination.
type route struct {
	name    string
	match   *match.Matcher
	metrics DestinationMetrics
	faults  *rate.Limiter // bounds the log lines about events that cannot be judged
}

// Events that cannot be judged are logged so many at once, and then at this pace.
const (
	faultsAtOnce = 5
	faultsEvery  = 10 * time.Second
)

// routesOf returns the routes of a config: nil if all events go to the default
// destination, which then costs nothing.
func routesOf(c *Config) *routes {
	if d := c.Destinations; len(d) == 1 && d[0].Name == inbox.DefaultDestination && d[0].Match == nil {
		return nil
	}
	r := &routes{logger: c.Logger, destinations: make([]route, 0, len(c.Destinations))}
	for _, d := range c.Destinations {
		r.destinations = append(r.destinations, route{
			name: d.Name, match: d.Match, metrics: c.Metrics.Destination(d.Name),
			faults: rate.NewLimiter(rate.Every(faultsEvery), faultsAtOnce),
		})
	}
	return r
}

// send sets the destinations of an event that is to be stored. Where it cannot be told
// whether the event goes there, it does: better one too many than one lost.
func (r *routes) send(e *inbox.Event) {
	if r == nil {
		return
	}
	to := make([]string, 0, len(r.destinations))
	subject := match.Of(e)
	for i := range r.destinations {
		d := &r.destinations[i]
		fits, err := d.match.Match(subject)
		if err != nil && fits {
			d.metrics.MatchFailed()
			if d.faults.Allow() {
				r.logger.Warn("it cannot be told whether an event goes to a destination, so it does",
					logfield.Event(e, zap.String("destination", d.name), zap.Error(err))...)
			}
		}
		if fits {
			to = append(to, d.name)
		}
	}
	if len(to) == 1 && to[0] == inbox.DefaultDestination {
		return // as events without destinations
	}
	e.Destinations = to
}
