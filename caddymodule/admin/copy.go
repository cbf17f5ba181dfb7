package admin

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// copyEvent answers with a request that has the event, for a service that is being worked
// on. Neither the event nor its deliveries change.
//
// It is a POST because it uses the destination's secrets: whoever may only GET, by the
// access control of Caddy's remote admin endpoint, gets no signature.
func (c *call) copyEvent() error {
	p := c.params("destination")
	destination := p.Destination("destination")
	if err := p.failure(); err != nil {
		return err
	}
	if err := c.configured(destination); err != nil {
		return err
	}
	if destination == "" {
		names := c.gateway.Destinations()
		if len(names) != 1 {
			p.Fail("destination", "%s", "it is missing, and the config has several: expected one of "+strings.Join(names, ", "))
			return p.failure()
		}
		destination = names[0]
	}
	record, err := c.gateway.Inbox().Get(c.r.Context(), c.id)
	if err != nil {
		return inboxFailure(err)
	}
	if !slices.ContainsFunc(record.Deliveries, func(d inbox.Delivery) bool { return d.Destination == destination }) {
		return failure(http.StatusConflict, fmt.Errorf("the event does not go to the destination %q", destination))
	}
	answer := control.Copy{
		ID: record.Event.ID, Destination: destination, Header: c.gateway.Copy(record.Event, destination),
	}
	answer.Body, answer.BodyEncoding = control.BodyOf(record.Event.Body)
	return c.answer(http.StatusOK, answer)
}
