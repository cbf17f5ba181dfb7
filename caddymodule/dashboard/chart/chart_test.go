package chart

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var hour = Axis{time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC), time.Minute}

// texts returns the texts of an SVG document, which must be well-formed.
func texts(t *testing.T, svg []byte) (all []string) {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(svg))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		if text, ok := token.(xml.CharData); ok && len(bytes.TrimSpace(text)) > 0 {
			all = append(all, string(text))
		}
	}
}

func steps(n int, value func(i int) float64) []float64 {
	all := make([]float64, n)
	for i := range all {
		all[i] = value(i)
	}
	return all
}

func TestBarsSayWhatTheyShow(t *testing.T) {
	svg, err := Bars(false, hour,
		Series{"accepted", Good, steps(60, func(int) float64 { return 700 })},
		Series{"refused", Bad, steps(60, func(i int) float64 { return float64(i) })})
	require.NoError(t, err)
	all := texts(t, svg)
	for _, want := range []string{"accepted", "refused", "12:00 UTC", "12:59", "0", "200", "400", "600", "800"} {
		assert.Contains(t, all, want)
	}
	assert.Less(t, len(svg), 40<<10)
	assert.NotContains(t, string(svg), "<script")
}

func TestLinesHaveGapsWhereNothingWasTimed(t *testing.T) {
	line := func(from, to int) string {
		svg, err := Lines(true, Axis{hour.From, 2 * time.Hour}, Series{"half", Plain, steps(84, func(i int) float64 {
			if i >= from && i < to {
				return math.NaN()
			}
			return 1500
		})})
		require.NoError(t, err)
		all := texts(t, svg)
		for _, want := range []string{"half", "23 Nov UTC", "0 ms", "500 ms", "1 s", "2 s"} {
			assert.Contains(t, all, want)
		}
		return string(svg)
	}
	assert.Equal(t, strings.Count(line(0, 0), "M ")+1, strings.Count(line(20, 30), "M "), "one path more")
}

// Whatever the numbers, there is a chart.
func TestThereIsAlwaysAChart(t *testing.T) {
	for name, value := range map[string]func(int) float64{
		"zero":  func(int) float64 { return 0 },
		"none":  func(int) float64 { return math.NaN() },
		"one":   func(i int) float64 { return float64(i / 59) },
		"large": func(int) float64 { return 1e15 },
		"wild":  func(int) float64 { return rand.Float64() * math.Pow(10, 12*rand.Float64()) },
	} {
		t.Run(name, func(t *testing.T) {
			for _, dark := range []bool{false, true} {
				for draw, do := range map[string]func(bool, Axis, ...Series) ([]byte, error){"bars": Bars, "lines": Lines} {
					svg, err := do(dark, hour, Series{"a", Good, steps(60, value)}, Series{"b", Warning, steps(60, value)})
					require.NoError(t, err, draw)
					assert.NotEmpty(t, texts(t, svg))
					assert.NotContains(t, string(svg), "NaN")
				}
			}
		})
	}
}

func TestNamesAreText(t *testing.T) {
	const name = `<script>alert("1")</script>&]]>`
	svg, err := Bars(false, hour, Series{name, Good, steps(60, func(int) float64 { return 1 })})
	require.NoError(t, err)
	assert.NotContains(t, string(svg), "<script")
	assert.Contains(t, strings.Join(texts(t, svg), ""), "alert")
}

func TestAxesHaveEvenQuarters(t *testing.T) {
	for v, want := range map[float64]float64{0: 4, 3: 4, 5: 8, 9: 12, 13: 20, 21: 40, 1199: 1200, 1201: 2000, 1e15: 1.2e15} {
		assert.InEpsilon(t, want, countTop(v), 1e-9, "count %v", v)
	}
	for ms, want := range map[float64]string{
		0: "0.4 ms", 0.9: "2 ms", 3: "4 ms", 90: "100 ms", 150: "200 ms", 801: "1 s", 3000: "4 s", 41_000: "1 min",
		9 * 60e3: "10 min", 50 * 60e3: "1 h", 5 * 3600e3: "8 h", 23 * 3600e3: "4 d", 30 * 24 * 3600e3: "40 d",
	} {
		top := durationTop(ms)
		assert.GreaterOrEqual(t, top, ms)
		assert.Equal(t, want, duration(top), "%v ms", ms)
	}
	for v, want := range map[float64]string{0: "0", 950: "950", 1250: "1.3k", 3e6: "3M", 2e9: "2G"} {
		assert.Equal(t, want, count(v))
	}
}

// Each label of an axis is the time at which it stands.
func TestLabelsOfDurationsAreTrue(t *testing.T) {
	units := map[string]float64{"ms": 1, "s": 1e3, "min": 60e3, "h": 3600e3, "d": 24 * 3600e3}
	for ms := 0.01; ms < 100*24*3600e3; ms *= 1.3 {
		top := durationTop(ms)
		svg, err := Lines(false, hour, Series{"half", Plain, steps(60, func(int) float64 { return ms })})
		require.NoError(t, err)
		drawn := texts(t, svg)
		for quarter := range 5 {
			want := top * float64(quarter) / 4
			label := duration(want)
			number, unit, _ := strings.Cut(label, " ")
			value, err := strconv.ParseFloat(number, 64)
			require.NoError(t, err)
			require.InDelta(t, want, value*units[unit], 1e-9*top, "%q of an axis to %v ms", label, top)
			require.Contains(t, drawn, label, "of an axis to %v ms", top)
		}
	}
}

// With CHARTS set to a folder, charts are written there for a person to look at.
func TestChartsToLookAt(t *testing.T) {
	dir := os.Getenv("CHARTS")
	if dir == "" {
		dir = t.TempDir()
	}
	noise := func(top float64) []float64 {
		return steps(60, func(int) float64 { return math.Floor(top * rand.Float64()) })
	}
	for mode, dark := range map[string]bool{"light": false, "dark": true} {
		bars, err := Bars(dark, hour, Series{"accepted", Good, noise(900)}, Series{"repeats", Plain, noise(90)}, Series{"refused", Bad, noise(30)})
		require.NoError(t, err)
		lines, err := Lines(dark, hour, Series{"half", Good, noise(9)}, Series{"95 %", Plain, noise(40)}, Series{"99 %", Warning, noise(190)})
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "bars-"+mode+".svg"), bars, 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "lines-"+mode+".svg"), lines, 0o600))
	}
}
