package admin

import (
	"net/http"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// to returns the parameter that says where events are to be delivered, other than to the
// parameter destination; "" if it is not given.
func (p params) to() string {
	to := p.Destination("to")
	if to != "" && to == p.Values.Get("destination") {
		p.Fail("to", "it is the destination itself: expected another one, or no such parameter")
	}
	return to
}

// configured returns an error unless the config has the destination, or none is named.
// One that it has no more is refused too: nothing is delivered there.
func (c *call) configured(destination string) error {
	if err := control.Configured(c.gateway, destination); err != nil {
		return failure(http.StatusNotFound, err)
	}
	return nil
}

// named returns fields for the audit log about the destinations that are named.
func named(destination, to string) []zap.Field {
	var fields []zap.Field
	if destination != "" {
		fields = append(fields, zap.String("destination", destination))
	}
	if to != "" {
		fields = append(fields, zap.String("to", to))
	}
	return fields
}
