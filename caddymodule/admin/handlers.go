package admin

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

func (c *call) listHandlers() error {
	p := c.params("recent")
	recent := p.Recent()
	if err := p.failure(); err != nil {
		return err
	}
	answer := control.Handlers{Process: process(), Handlers: c.summaries(recent)}
	answer.Unattended, answer.MoreUnattended = control.Inboxes(c.r.Context())
	return c.answer(http.StatusOK, answer)
}

// summariesAtOnce is how many handlers are asked at once: those whose inbox does not
// answer must not delay the others.
const summariesAtOnce = 16

// summaries returns how all handlers are doing, in the order of their names.
func (c *call) summaries(recent time.Duration) []control.Handler {
	names := control.Names()
	all := make([]*control.Handler, len(names))
	var jobs errgroup.Group
	jobs.SetLimit(summariesAtOnce)
	for i, name := range names {
		jobs.Go(func() error {
			gateway, err := control.Open(name)
			if err != nil {
				return nil //nolint:nilerr // it has stopped meanwhile
			}
			defer c.close(gateway, name)
			all[i] = new(gateway.Summary(c.r.Context(), recent))
			return nil
		})
	}
	_ = jobs.Wait() // none returns an error
	running := make([]control.Handler, 0, len(all))
	for _, h := range all {
		if h != nil {
			running = append(running, *h)
		}
	}
	return running
}

func (c *call) showHandler() error {
	p := c.params("recent")
	recent := p.Recent()
	if err := p.failure(); err != nil {
		return err
	}
	answer := c.gateway.Summary(c.r.Context(), recent)
	answer.Process = new(process())
	return c.answer(http.StatusOK, answer)
}

func (c *call) history() error {
	p := c.params("span")
	span := p.Span()
	if err := p.failure(); err != nil {
		return err
	}
	return c.answer(http.StatusOK, c.gateway.History(span))
}

func (c *call) explain() error {
	p := c.params("ip", "forwarded_for")
	ip, forwardedFor := p.Caller()
	if err := p.failure(); err != nil {
		return err
	}
	return c.answer(http.StatusOK, c.gateway.Explain(ip, forwardedFor))
}

func (c *call) hold() error {
	destination, err := c.heldDestination()
	if err != nil {
		return err
	}
	var request control.HoldRequest
	if err := c.body(&request); err != nil {
		return err
	}
	until, err := holdUntil(&request, time.Now())
	if err != nil {
		return failure(http.StatusBadRequest, err)
	}
	ctx, cancel := c.context()
	defer cancel()
	if err := c.gateway.Hold(ctx, destination, request.Reason, until); err != nil {
		return inboxFailure(err)
	}
	fields := append(named(destination, ""), zap.String("reason", request.Reason))
	if !until.IsZero() {
		fields = append(fields, zap.Time("until", until))
	}
	c.audit("deliveries held by hand", fields...)
	return c.answerHolds()
}

// holdUntil returns when the hold ends; zero if it has no end.
func holdUntil(request *control.HoldRequest, now time.Time) (until time.Time, err error) {
	switch {
	case len(request.Reason) > control.MaxHoldReason:
		return until, errors.New("the body: reason is longer than 256 bytes")
	case request.Until != nil && request.For != "":
		return until, errors.New("the body has both until and for: expected one of them")
	case request.Until != nil:
		until, err = control.HoldUntil(now, *request.Until, 0)
	case request.For != "":
		length, parseErr := caddy.ParseDuration(request.For)
		if parseErr != nil || length == 0 {
			return until, fmt.Errorf("the body: for is no duration: %.64q; expected one such as 30m, 365d at most", request.For)
		}
		until, err = control.HoldUntil(now, time.Time{}, length)
	}
	if err != nil {
		err = fmt.Errorf("the body: %w", err)
	}
	return until, err
}

func (c *call) resume() error {
	destination, err := c.heldDestination()
	if err != nil {
		return err
	}
	ctx, cancel := c.context()
	defer cancel()
	if err := c.gateway.Resume(ctx, destination); err != nil {
		return inboxFailure(err)
	}
	c.audit("deliveries resumed by hand", named(destination, "")...)
	return c.answerHolds()
}

// heldDestination returns the destination whose deliveries are to be held or resumed; ""
// for all.
func (c *call) heldDestination() (string, error) {
	p := c.params("destination")
	destination := p.Destination("destination")
	if err := p.failure(); err != nil {
		return "", err
	}
	return destination, c.configured(destination)
}

func (c *call) answerHolds() error {
	answer := c.gateway.Holds()
	answer.Destinations = c.gateway.Destinations()
	return c.answer(http.StatusOK, answer)
}
