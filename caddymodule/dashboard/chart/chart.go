// Package chart draws the dashboard's charts as SVG documents, for light and dark pages.
package chart

import (
	"math"
	"strconv"
	"time"

	charts "github.com/go-analyze/charts"
)

// The size of a chart, in the units of its own. A page scales it to its width.
const (
	Width  = 640
	Height = 200
)

// Axis is the time on which a chart's steps lie.
type Axis struct {
	From time.Time // when the first step begins, in the time zone of the labels
	Step time.Duration
}

// Series is one kind of thing on a chart, with a number for each step.
type Series struct {
	Name   string
	Color  Color
	Values []float64 // NaN where there is none
}

// Color is the meaning of a series.
type Color int

// The colors.
const (
	Good Color = iota
	Plain
	Warning
	Bad
	Dim
)

// palette is what a chart looks like on a light or dark page. Its colors have a contrast
// of at least 3 to the page's background, as WCAG 2.2 asks of graphics, and texts one of
// at least 4.5.
type palette struct {
	text, lines string
	series      [Dim + 1]string
}

var palettes = map[bool]palette{
	false: {text: "#57606a", lines: "#d8dee4", series: [...]string{Good: "#1a7f37", Plain: "#0969da", Warning: "#9a6700", Bad: "#cf222e", Dim: "#6e7781"}},
	true:  {text: "#9198a1", lines: "#3d444d", series: [...]string{Good: "#3fb950", Plain: "#58a6ff", Warning: "#d29922", Bad: "#f85149", Dim: "#8b949e"}},
}

// Bars draws counts as bars that stand on one another.
func Bars(dark bool, axis Axis, series ...Series) ([]byte, error) {
	opt := charts.NewBarChartOptionWithSeries(charts.NewSeriesListBar(values(series), charts.BarSeriesOption{Names: names(series)}))
	opt.Theme = theme(dark, series)
	opt.StackSeries = new(true)
	opt.BarSize = 0.85
	opt.Padding = charts.NewBoxEqual(8)
	opt.Legend = legend(dark)
	opt.CategoryAxis = times(dark, axis, series)
	opt.ValueAxis = []charts.ValueAxisOption{value(dark, countTop(highest(series, true)))}
	opt.ValueFormatter = count
	p := painter()
	if err := p.BarChart(opt); err != nil {
		return nil, err
	}
	return p.Bytes()
}

// Lines draws durations, in milliseconds, as lines.
func Lines(dark bool, axis Axis, series ...Series) ([]byte, error) {
	opt := charts.NewLineChartOptionWithSeries(charts.NewSeriesListLine(values(series), charts.LineSeriesOption{Names: names(series)}))
	opt.Theme = theme(dark, series)
	opt.Padding = charts.NewBoxEqual(8)
	opt.Symbol = charts.Symbol{Shape: charts.SymbolNone}
	opt.LineStrokeWidth = 1.5
	opt.Legend = legend(dark)
	opt.XAxis = times(dark, axis, series)
	opt.YAxis = []charts.YAxisOption{value(dark, durationTop(highest(series, false)))}
	opt.ValueFormatter = duration
	p := painter()
	if err := p.LineChart(opt); err != nil {
		return nil, err
	}
	return p.Bytes()
}

func painter() *charts.Painter {
	return charts.NewPainter(charts.PainterOptions{OutputFormat: charts.ChartOutputSVG, Width: Width, Height: Height})
}

func theme(dark bool, series []Series) charts.ColorPalette {
	look := palettes[dark]
	colors := make([]charts.Color, len(series))
	for i := range series {
		colors[i] = charts.ColorFromHex(look.series[series[i].Color])
	}
	return charts.GetTheme(charts.ThemeLight).
		WithBackgroundColor(charts.ColorTransparent).
		WithTextColor(charts.ColorFromHex(look.text)).
		WithXAxisColor(charts.ColorFromHex(look.lines)).
		WithYAxisColor(charts.ColorFromHex(look.lines)).
		WithXAxisTextColor(charts.ColorFromHex(look.text)).
		WithYAxisTextColor(charts.ColorFromHex(look.text)).
		WithAxisSplitLineColor(charts.ColorFromHex(look.lines)).
		WithSeriesColors(colors)
}

func font(dark bool) charts.FontStyle {
	return charts.FontStyle{FontSize: 9, FontColor: charts.ColorFromHex(palettes[dark].text)}
}

func legend(dark bool) charts.LegendOption {
	return charts.LegendOption{FontStyle: font(dark), Symbol: charts.SymbolSquare}
}

// times are the labels of a time axis: about six of them.
func times(dark bool, axis Axis, series []Series) charts.CategoryAxisOption {
	n := 0
	for i := range series {
		n = max(n, len(series[i].Values))
	}
	layout := "15:04"
	if axis.Step >= time.Hour {
		layout = "2 Jan"
	}
	labels := make([]string, n)
	for i := range labels {
		labels[i] = axis.From.Add(time.Duration(i) * axis.Step).Format(layout)
	}
	if n > 0 && axis.From.Location() == time.UTC { // then it need not be the reader's time
		labels[0] += " UTC"
	}
	return charts.CategoryAxisOption{Labels: labels, LabelCount: 7, LabelFontStyle: font(dark), BoundaryGap: new(false)}
}

// value is an axis from 0 to a top, in quarters.
func value(dark bool, top float64) charts.ValueAxisOption {
	return charts.ValueAxisOption{
		Min: new(0.0), Max: &top, RangeValuePaddingScale: new(0.0), PreferNiceIntervals: new(false),
		LabelCount: 5, LabelFontStyle: font(dark), SplitLineShow: new(true),
	}
}

// highest returns the highest value, or with stacked the highest sum of a step.
func highest(series []Series, stacked bool) (top float64) {
	sums := make([]float64, 0)
	for i := range series {
		for j, v := range series[i].Values {
			if math.IsNaN(v) {
				continue
			}
			if j >= len(sums) {
				sums = append(sums, make([]float64, j+1-len(sums))...)
			}
			sums[j] += v
			if stacked {
				v = sums[j]
			}
			top = max(top, v)
		}
	}
	return top
}

// countTop returns an axis' top that is not below a count, and has even quarters.
func countTop(v float64) float64 {
	for unit := 1.0; ; unit *= 10 {
		for _, n := range []float64{4, 8, 12, 20} {
			if n*unit >= v {
				return n * unit
			}
		}
	}
}

// durationTop is countTop for milliseconds, with quarters that are even in the unit in
// which they are written.
func durationTop(ms float64) float64 {
	for _, top := range []float64{0.4, 0.8, 2, 4, 8} { // a quarter of 1 has more decimals than are written
		if top >= ms {
			return top
		}
	}
	for _, unit := range []struct{ size, most float64 }{{10, 1e3}, {1e3, 60e3}, {60e3, 3600e3}, {3600e3, 24 * 3600e3}} {
		for n := unit.size; n < unit.most; n *= 10 {
			for _, m := range []float64{1, 2, 4, 8} {
				if top := m * n; top >= ms && top < unit.most {
					return top
				}
			}
		}
	}
	day := 24 * 3600e3
	return day * countTop(ms/day)
}

func values(series []Series) [][]float64 {
	all := make([][]float64, len(series))
	for i := range series {
		all[i] = make([]float64, len(series[i].Values))
		for j, v := range series[i].Values {
			if math.IsNaN(v) {
				v = charts.GetNullValue()
			}
			all[i][j] = v
		}
	}
	return all
}

func names(series []Series) []string {
	all := make([]string, len(series))
	for i := range series {
		all[i] = series[i].Name
	}
	return all
}

// count writes a count as short as it can be: 950, 1.2k, 3M.
func count(v float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if v >= unit.size {
			return strconv.FormatFloat(math.Round(v/unit.size*10)/10, 'f', -1, 64) + unit.name
		}
	}
	return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64)
}

// duration writes milliseconds as a duration with one unit: 12 ms, 1.5 s, 3 h.
func duration(ms float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{24 * 3600e3, "d"}, {3600e3, "h"}, {60e3, "min"}, {1e3, "s"}} {
		if ms >= unit.size {
			return strconv.FormatFloat(math.Round(ms/unit.size*10)/10, 'f', -1, 64) + " " + unit.name
		}
	}
	return strconv.FormatFloat(math.Round(ms*10)/10, 'f', -1, 64) + " ms"
}
