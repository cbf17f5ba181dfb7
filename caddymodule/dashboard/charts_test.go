package dashboard

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

func sampleHistory() control.History {
	ms := func(v float64) *float64 { return &v }
	times := control.Times{
		P50: []*float64{nil, ms(2)}, P95: []*float64{nil, ms(4)}, P99: []*float64{nil, ms(8)},
		All: &control.Quantiles{P50: 2, P95: 4, P99: 8},
	}
	return control.History{
		Span: "hour", From: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC), Step: 60, Complete: true,
		Callbacks: control.CallbackHistory{
			Accepted: []int64{1000, 234}, Duplicates: []int64{0, 5}, Refused: []int64{0, 0}, Invalid: []int64{1, 0}, Unavailable: []int64{0, 2},
			Answer: times,
		},
		Destinations: []control.DeliveryHistory{
			{Destination: "app", Delivered: []int64{7, 8}, Retried: []int64{1, 0}, Dead: []int64{0, 3}, Age: times},
			{Destination: "new", Delivered: []int64{0, 0}, Retried: []int64{0, 0}, Dead: []int64{0, 0}},
		},
	}
}

// Each chart says in words what it shows, for those who do not see it.
func TestChartsAreInWordsToo(t *testing.T) {
	h := sampleHistory()
	v := chartsOf(&h, "default", time.Unix(1_795_000_019, 0))
	require.Len(t, v.Handler, 2)
	assert.Equal(t, "1,234 accepted, 5 repeats, 1 not valid, 0 refused, 2 not stored", v.Handler[0].Words)
	assert.Equal(t, "half within 2ms, 95 % within 4ms, 99 % within 8ms", v.Handler[1].Words)
	require.Len(t, v.Destinations, 2)
	assert.Equal(t, "15 delivered, 1 to be repeated, 3 dead", v.Destinations[0].Charts[0].Words)
	assert.Equal(t, "nothing was timed", v.Destinations[1].Charts[1].Words)
	assert.Equal(t, "./chart?at=1795000010&handler=default&of=callbacks&span=hour", v.Handler[0].Light)
	dark, err := url.Parse(v.Destinations[0].Charts[1].Dark)
	require.NoError(t, err)
	assert.Equal(t, url.Values{
		"at": {"1795000010"}, "dark": {"true"}, "handler": {"default"}, "of": {"ages"}, "destination": {"app"}, "span": {"hour"},
	}, dark.Query())
}

func TestChartsAreDrawn(t *testing.T) {
	for of, want := range map[string][]string{
		ofCallbacks: {"accepted", "repeats", "not valid", "refused", "not stored", "12:00 UTC"},
		ofAnswers:   {"half", "95 %", "99 %", "8 ms"}, ofDeliveries: {"delivered", "repeated", "dead"}, ofAges: {"half", "8 ms"},
	} {
		svg, err := draw(sampleHistory(), of, "app", false, time.UTC)
		require.NoError(t, err, of)
		for _, text := range want {
			assert.Contains(t, string(svg), ">"+text+"<", of)
		}
	}
	_, err := draw(sampleHistory(), ofAges, "nosuch", false, time.UTC)
	require.ErrorContains(t, err, `there is nothing of a destination "nosuch"`)
	assert.Equal(t, 404, statusOf(err))
}

// Whatever a page says its zone is, there is a chart.
func TestZonesOfReaders(t *testing.T) {
	for _, name := range []string{"", "Local", "Nowhere/At_All", "../../etc/passwd", strings.Repeat("a/", 1000)} {
		assert.Equal(t, time.UTC, zone(name), name)
	}
}
