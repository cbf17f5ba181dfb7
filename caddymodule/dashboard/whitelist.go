package dashboard

import (
	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/query"
	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// whitelistPage is who may call.
type whitelistPage struct {
	Handler   string // as links need it
	Allow     []string
	AllowFrom []string
	Refused   int64 // lately
	Refusals  []control.Refusal

	// IP and ForwardedFor are what the form was sent with, Explanation the answer and
	// Fault what is wrong with it.
	IP, ForwardedFor string
	Explanation      *control.Explanation
	Fault            string
}

func (v *visit) whitelist() error {
	values := v.r.URL.Query()
	if values.Get("forwarded_for") == "" { // a form sends it empty
		values.Del("forwarded_for")
	}
	p := query.Of(values, "handler", "ip", "forwarded_for")
	name := p.Text("handler")
	if err := p.Err(); err != nil {
		return badRequest(err)
	}
	if err := v.open(name); err != nil {
		return err
	}
	summary := v.gateway.Summary(v.r.Context(), control.RecentDefault)
	page := whitelistPage{
		Handler: v.one(), Allow: summary.Config.Allow, AllowFrom: summary.Config.AllowFrom,
		Refused: summary.Recent.Refused, Refusals: summary.Refusals,
		IP: values.Get("ip"), ForwardedFor: values.Get("forwarded_for"),
	}
	if p.Has("ip") {
		ip, forwardedFor := p.Caller()
		if err := p.Err(); err != nil {
			page.Fault = err.Error()
		} else {
			explanation := v.gateway.Explain(ip, forwardedFor)
			page.Explanation = &explanation
		}
	}
	return v.show("whitelist", "Whitelist", page)
}
