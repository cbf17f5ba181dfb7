package command

import (
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// column is one of a table. Columns of a table that is printed page by page
// have a width, so that the pages look like one.
type column struct {
	title string
	width int
	right bool // numbers
}

// printer turns values into what people read, with or without colours.
type printer struct{ color bool }

// table lays out rows. Their cells must be safe for a terminal. No titles: no
// header.
func (p printer) table(columns []column, rows [][]string, header bool) string {
	t := table.NewWriter()
	t.SetStyle(plainStyle)
	t.SuppressTrailingSpaces()
	titles := make(table.Row, len(columns))
	configs := make([]table.ColumnConfig, len(columns))
	for i, c := range columns {
		titles[i] = p.paint(c.title, text.Bold)
		configs[i] = table.ColumnConfig{Number: i + 1, WidthMin: max(c.width, len(c.title))}
		if c.right {
			configs[i].Align, configs[i].AlignHeader = text.AlignRight, text.AlignRight
		}
	}
	t.SetColumnConfigs(configs)
	if header {
		t.AppendHeader(titles)
	}
	for _, cells := range rows {
		row := make(table.Row, len(cells))
		for i, cell := range cells {
			row[i] = cell
		}
		t.AppendRow(row)
	}
	return t.Render() + "\n"
}

// plainStyle is columns with two spaces between them, and no lines. It has no
// text direction, for which go-pretty would print bidi marks.
var plainStyle = table.Style{
	Name:    "plain",
	Box:     table.BoxStyle{PaddingRight: "  ", UnfinishedRow: "…"},
	Options: table.OptionsNoBordersAndSeparators,
}

// fields is a list of names with their values. Empty values are left out.
type fields struct {
	printer
	rows [][]string
}

func (f *fields) add(name, value string) {
	if value != "" {
		f.rows = append(f.rows, []string{f.paint(name, text.Bold), value})
	}
}

func (f *fields) String() string {
	return f.table(make([]column, 2), f.rows, false)
}

// paint colours a text. Not go-pretty's own switch decides, which is one for
// the process and looks at the environment, but the command's flag.
func (p printer) paint(s string, colors ...text.Color) string {
	if !p.color || s == "" {
		return s
	}
	return text.Colors(colors).EscapeSeq() + s + text.Reset.EscapeSeq()
}

// state is an event's state, coloured.
func (p printer) state(state string) string {
	shown := quoted(state)
	switch state {
	case "pending":
		return p.paint(shown, text.FgYellow)
	case "delivered":
		return p.paint(shown, text.FgGreen)
	case "superseded":
		return p.paint(shown, text.Faint)
	case "dead":
		return p.paint(shown, text.FgRed)
	}
	return shown
}

// bad is a number that should be zero.
func (p printer) bad(n int64) string {
	if n == 0 {
		return "0"
	}
	return p.paint(count(n), text.FgRed)
}

// kind is the kind of a notice, padded and coloured.
func (p printer) kind(kind string) string {
	shown := quoted(kind)
	if pad := len(control.InQuarantine) - len(shown); pad > 0 {
		shown += strings.Repeat(" ", pad)
	}
	switch kind {
	case control.Accepted:
		return p.paint(shown, text.FgCyan)
	case control.Delivered, control.Resumed:
		return p.paint(shown, text.FgGreen)
	case control.Retried, control.GivenBack, control.Held:
		return p.paint(shown, text.FgYellow)
	case control.Dead, control.Gap:
		return p.paint(shown, text.FgRed)
	case control.InQuarantine:
		return p.paint(shown, text.FgMagenta)
	}
	return shown
}
