package dashboard

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/dashboard/chart"
	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/query"
	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/show"
)

// What a chart is of, as its address has it.
const (
	ofCallbacks  = "callbacks"  // how they were answered
	ofAnswers    = "answers"    // how long that took
	ofDeliveries = "deliveries" // how attempts at a destination ended
	ofAges       = "ages"       // how old events were when they were delivered there
)

var chartKinds = []string{ofCallbacks, ofAnswers, ofDeliveries, ofAges}

// chartFresh is for how long a page shows the same picture of a chart.
const chartFresh = 10 * time.Second

// drawing bounds how many charts are drawn at once: each takes about a millisecond of CPU.
var drawing = make(chan struct{}, 2)

// chartsView are the charts of a handler.
type chartsView struct {
	Span         string
	Handler      []chartView
	Destinations []destinationCharts

	// Known is how far back there is something to show, if that is less than the span;
	// Reading is true while the inbox is being read for that.
	Known   *time.Time
	Reading bool
}

// destinationCharts are the charts of a destination.
type destinationCharts struct {
	Name   string
	Charts []chartView
}

// chartView is one chart: a picture for light pages and one for dark ones, and what they
// show in words.
type chartView struct {
	Title, Light, Dark, Words string
}

// chartsOf returns the charts of a handler.
func chartsOf(h *control.History, name string, now time.Time) *chartsView {
	v := &chartsView{Span: h.Span, Known: h.KnownFrom, Reading: !h.Complete}
	view := func(of, destination, title, words string) chartView {
		link := func(dark string) string {
			return href(leafChart, "handler", name, "of", of, "destination", destination, "span", h.Span, "dark", dark,
				"at", strconv.FormatInt(now.Truncate(chartFresh).Unix(), 10))
		}
		return chartView{title, link(""), link("true"), words}
	}
	c := &h.Callbacks
	v.Handler = []chartView{
		view(ofCallbacks, "", "Callbacks", fmt.Sprintf("%s accepted, %s repeats, %s not valid, %s refused, %s not stored",
			sumOf(c.Accepted), sumOf(c.Duplicates), sumOf(c.Invalid), sumOf(c.Refused), sumOf(c.Unavailable))),
		view(ofAnswers, "", "Time to answer", timesOf(&c.Answer)),
	}
	for i := range h.Destinations {
		d := &h.Destinations[i]
		v.Destinations = append(v.Destinations, destinationCharts{d.Destination, []chartView{
			view(ofDeliveries, d.Destination, "Attempts", fmt.Sprintf("%s delivered, %s to be repeated, %s dead",
				sumOf(d.Delivered), sumOf(d.Retried), sumOf(d.Dead))),
			view(ofAges, d.Destination, "Age at delivery", timesOf(&d.Age)),
		}})
	}
	return v
}

func sumOf(column []int64) string {
	sum := int64(0)
	for _, n := range column {
		sum += n
	}
	return humanize.Comma(sum)
}

// timesOf says in words how long things took.
func timesOf(t *control.Times) string {
	if t.All == nil {
		return "nothing was timed"
	}
	span := func(ms float64) string { return show.Latency(time.Duration(ms * float64(time.Millisecond))) }
	return fmt.Sprintf("half within %s, 95 %% within %s, 99 %% within %s", span(t.All.P50), span(t.All.P95), span(t.All.P99))
}

// chart answers with one chart as an SVG document.
func (v *visit) chart() error {
	p := query.New(v.r.URL.RawQuery, "handler", "of", "destination", "span", "dark", "tz", "at")
	span, dark, destination := p.Span(), p.Boolean("dark"), p.Destination("destination")
	of := p.Text("of")
	if !slices.Contains(chartKinds, of) {
		p.Fail("of", "it is %.64q: expected one of %s", of, strings.Join(chartKinds, ", "))
	}
	if err := p.Err(); err != nil {
		return badRequest(err)
	}
	if err := v.open(p.Values.Get("handler")); err != nil {
		return err
	}
	select {
	case drawing <- struct{}{}:
		defer func() { <-drawing }()
	case <-v.r.Context().Done():
		return v.r.Context().Err()
	}
	svg, err := draw(v.gateway.History(span), of, destination, dark, zone(p.Values.Get("tz")))
	if err != nil {
		return err
	}
	// the library gives its elements inline styles; nothing else is in the document
	v.w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	v.w.Header().Set("Content-Type", "image/svg+xml")
	writeZipped(v.w, v.r, http.StatusOK, svg, zip)
	return nil
}

// zone returns the time zone of a reader; UTC if it is not known here.
func zone(name string) *time.Location {
	if at, err := time.LoadLocation(name); err == nil && at != time.Local {
		return at
	}
	return time.UTC
}

func draw(h control.History, of, destination string, dark bool, in *time.Location) ([]byte, error) {
	axis := chart.Axis{From: h.From.In(in), Step: time.Duration(h.Step) * time.Second}
	c := &h.Callbacks
	switch of {
	case ofCallbacks:
		return chart.Bars(dark, axis,
			counts("accepted", chart.Good, c.Accepted), counts("repeats", chart.Plain, c.Duplicates),
			counts("not valid", chart.Warning, c.Invalid), counts("refused", chart.Dim, c.Refused),
			counts("not stored", chart.Bad, c.Unavailable))
	case ofAnswers:
		return chart.Lines(dark, axis, lines(&c.Answer)...)
	}
	i := slices.IndexFunc(h.Destinations, func(d control.DeliveryHistory) bool { return d.Destination == destination })
	if i < 0 {
		return nil, &failure{http.StatusNotFound, fmt.Errorf("there is nothing of a destination %q", destination)}
	}
	d := &h.Destinations[i]
	if of == ofAges {
		return chart.Lines(dark, axis, lines(&d.Age)...)
	}
	return chart.Bars(dark, axis,
		counts("delivered", chart.Good, d.Delivered), counts("repeated", chart.Warning, d.Retried), counts("dead", chart.Bad, d.Dead))
}

func counts(name string, color chart.Color, column []int64) chart.Series {
	s := chart.Series{Name: name, Color: color, Values: make([]float64, len(column))}
	for i, n := range column {
		s.Values[i] = float64(n)
	}
	return s
}

// lines are the three lines of times.
func lines(t *control.Times) []chart.Series {
	line := func(name string, color chart.Color, column []*float64) chart.Series {
		s := chart.Series{Name: name, Color: color, Values: make([]float64, len(column))}
		for i, ms := range column {
			s.Values[i] = math.NaN()
			if ms != nil {
				s.Values[i] = *ms
			}
		}
		return s
	}
	return []chart.Series{line("half", chart.Good, t.P50), line("95 %", chart.Plain, t.P95), line("99 %", chart.Warning, t.P99)}
}
