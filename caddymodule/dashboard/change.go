package dashboard

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/query"
	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// eventForm reads the fields that name an event, and perhaps one of its destinations.
func eventForm(p *query.Params) (id, destination string, err error) {
	id, destination = p.Text("id"), p.Destination("destination")
	if id == "" {
		p.Fail("id", "it is missing: expected the id of an event")
	}
	if err := p.Err(); err != nil {
		return "", "", badRequest(err)
	}
	return id, destination, nil
}

// ofEvent returns the outcome of a change of an event, for now that it is done.
func (v *visit) ofEvent(what, id, destination, text string) *outcome {
	o := &outcome{
		to: href(leafEvent, "handler", v.one(), "id", id), what: what,
		notice: notice{Class: isWell, Text: text},
		fields: []zap.Field{zap.String("event_id", value(id, cutCell))},
	}
	if destination != "" {
		o.fields = append(o.fields, zap.String("destination", destination))
	}
	return o
}

// goneTo changes the page to go back to if the event's own is not there.
func (o *outcome) goneTo(leaf, handler string, err error) {
	if err == nil || errors.Is(err, inbox.ErrNotFound) {
		o.to = href(leaf, "handler", handler)
	}
}

// replay has an event delivered again.
func (v *visit) replay(p *query.Params) (*outcome, error) {
	id, destination, err := eventForm(p)
	if err != nil {
		return nil, err
	}
	text := "Replayed: the event is due now."
	if destination != "" {
		text = fmt.Sprintf("Replayed: the event is due now at %s.", destination)
	}
	o := v.ofEvent("event replayed by hand", id, destination, text)
	ctx, cancel := v.within()
	defer cancel()
	if err = control.Again(ctx, v.gateway, id, destination, ""); err != nil {
		o.goneTo(leafEvents, v.one(), err)
	}
	return o, err
}

// move has an event delivered to one more destination, or to another one.
func (v *visit) move(p *query.Params) (*outcome, error) {
	id, destination, err := eventForm(p)
	to := p.Destination("to")
	if to == "" {
		p.Fail("to", "it is missing: expected the name of a destination")
	}
	if err := errors.Join(err, p.Err()); err != nil {
		return nil, badRequest(err)
	}
	o := v.ofEvent("event replayed by hand", id, destination, fmt.Sprintf("Replayed: the event is due now at %s.", to))
	o.fields = append(o.fields, zap.String("to", to))
	ctx, cancel := v.within()
	defer cancel()
	err = control.Configured(v.gateway, to)
	if err == nil {
		err = control.Again(ctx, v.gateway, id, destination, to)
	}
	if errors.Is(err, inbox.ErrNotFound) {
		o.goneTo(leafEvents, v.one(), err)
	}
	return o, err
}

// purgePage asks whether an event is to be purged.
func (v *visit) purgePage() error {
	p := query.New(v.r.URL.RawQuery, "handler", "id", "destination")
	name, id, destination := p.Text("handler"), p.Text("id"), p.Destination("destination")
	if err := p.Err(); err != nil {
		return badRequest(err)
	}
	if err := v.open(name); err != nil {
		return err
	}
	event, err := control.ShowEvent(v.r.Context(), v.gateway.Inbox(), id)
	if err != nil {
		return err
	}
	page := confirmPage{
		Title: "Purge this event?", Action: leafPurge, Label: "Purge for good",
		Facts:  []field{{"Task", value(event.TaskID, cutLine)}, {"Type", value(event.Type, cutCell)}, {"State", stateOf(event.State).Word}},
		Back:   href(leafEvent, "handler", v.one(), "id", id),
		Fields: []field{{"handler", v.name}, {"id", id}},
		Why:    "The event, its body and its attempts are removed for good. What has not been delivered never will be. A repeat of the callback would be a new event.",
	}
	for _, d := range event.Deliveries {
		page.Facts = append(page.Facts, field{"At " + d.Destination, stateOf(d.State).Word})
	}
	if destination != "" {
		i := slices.IndexFunc(event.Deliveries, func(d control.Delivery) bool { return d.Destination == destination })
		if i < 0 {
			return &failure{http.StatusNotFound, fmt.Errorf("the event has no delivery to %s", destination)}
		}
		page.Title = fmt.Sprintf("Purge the delivery to %s?", destination)
		page.Facts = append(page.Facts[:2], field{"State", stateOf(event.Deliveries[i].State).Word})
		page.Fields = append(page.Fields, field{"destination", destination})
		page.Why = fmt.Sprintf("The delivery and its attempts are removed for good: if %s has not taken the event, it never will.", destination)
		if len(event.Deliveries) == 1 {
			page.Why += " It is the event's only delivery, so the event is removed with it."
		}
	}
	return v.write(http.StatusOK, "confirm", v.frame(page.Title, page))
}

// confirmPage asks before something is lost.
type confirmPage struct {
	Title, Why    string
	Facts         []field
	Action, Label string
	Fields        []field
	Back          string
}

// purge removes an event, or its delivery to a destination.
func (v *visit) purge(p *query.Params) (*outcome, error) {
	id, destination, err := eventForm(p)
	if err != nil {
		return nil, err
	}
	text := "Purged: the event is gone."
	if destination != "" {
		text = fmt.Sprintf("Purged: the delivery to %s is gone.", destination)
	}
	o := v.ofEvent("event purged by hand", id, destination, text)
	ctx, cancel := v.within()
	defer cancel()
	err = control.Purge(ctx, v.gateway, id, destination)
	if err == nil && destination != "" { // the event may have others
		if _, gone := v.gateway.Inbox().Get(ctx, id); errors.Is(gone, inbox.ErrNotFound) {
			o.goneTo(leafEvents, v.one(), nil)
		}
		return o, nil
	}
	o.goneTo(leafEvents, v.one(), err)
	return o, err
}

// release takes a callback from quarantine.
func (v *visit) release(p *query.Params) (*outcome, error) {
	id := suspectID(p)
	if err := p.Err(); err != nil {
		return nil, badRequest(err)
	}
	o := v.ofQuarantined("callback released from quarantine by hand", id, "Released: it is an event now.")
	ctx, cancel := v.within()
	defer cancel()
	released, err := v.gateway.Release(ctx, id)
	if err != nil {
		if errors.Is(err, inbox.ErrNotFound) {
			o.to = href(leafProblems, "handler", v.one())
		}
		return o, err
	}
	o.fields = append(o.fields, zap.String("event_id", released.ID))
	o.to = href(leafEvent, "handler", v.one(), "id", released.ID)
	if released.Duplicate {
		o.Text = "Released: it is the same as this event, which was there already."
	}
	return o, nil
}

// ofQuarantined returns the outcome of a change of a callback in quarantine.
func (v *visit) ofQuarantined(what string, id int64, text string) *outcome {
	return &outcome{
		to: href(leafQuarantined, "handler", v.one(), "id", fmt.Sprint(id)), what: what,
		notice: notice{Class: isWell, Text: text}, fields: []zap.Field{zap.Int64("quarantine_id", id)},
	}
}

// discardPage asks whether a callback in quarantine is to be deleted.
func (v *visit) discardPage() error {
	p := query.New(v.r.URL.RawQuery, "handler", "id")
	name, id := p.Text("handler"), suspectID(p)
	if err := p.Err(); err != nil {
		return badRequest(err)
	}
	if err := v.open(name); err != nil {
		return err
	}
	callback, err := control.ShowQuarantined(v.r.Context(), v.gateway.Inbox(), id)
	if err != nil {
		return err
	}
	page := confirmPage{
		Title: fmt.Sprintf("Purge callback No. %d?", id), Action: leafDiscard, Label: "Purge for good",
		Facts:  []field{{"Arrived", plural(callback.Count, "time")}, {"From", value(callback.SourceIP, cutCell)}, {"Problems", fmt.Sprint(callback.ProblemCount)}},
		Back:   href(leafQuarantined, "handler", v.one(), "id", fmt.Sprint(id)),
		Fields: []field{{"handler", v.name}, {"id", fmt.Sprint(id)}},
		Why:    "The callback and its body are removed from quarantine for good. If Fotor meant something by it, that is lost.",
	}
	return v.write(http.StatusOK, "confirm", v.frame(page.Title, page))
}

// discard deletes a callback from quarantine.
func (v *visit) discard(p *query.Params) (*outcome, error) {
	id := suspectID(p)
	if err := p.Err(); err != nil {
		return nil, badRequest(err)
	}
	o := v.ofQuarantined("callback deleted from quarantine by hand", id, fmt.Sprintf("Purged: callback No. %d is gone.", id))
	ctx, cancel := v.within()
	defer cancel()
	err := v.gateway.Inbox().Unquarantine(ctx, id)
	o.goneTo(leafProblems, v.one(), err)
	return o, err
}
