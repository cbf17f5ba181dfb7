package command

import (
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// column is a column of a table. If the table is printed page by page, its columns have
// widths, so that the pages line up.
type column struct {
	title string
	width int
	right bool // numbers
}

// printer formats values for people, with or without colours.
type printer struct{ color bool }

// table formats rows. Their cells must be safe for a terminal.
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

// plainStyle has two spaces between columns, and no lines. It does not set a text
// direction, for which go-pretty would print bidi marks.
var plainStyle = table.Style{
	Name:    "plain",
	Box:     table.BoxStyle{PaddingRight: "  ", UnfinishedRow: "…"},
	Options: table.OptionsNoBordersAndSeparators,
}

// fields is a list of names with values. Empty values are left out.
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

// paint colours a text, if the command's flag asks for it. go-pretty's own switch is not
// used: it is global and depends on the environment.
func (p printer) paint(s string, colors ...text.Color) string {
	if !p.color || s == "" {
		return s
	}
	return text.Colors(colors).EscapeSeq() + s + text.Reset.EscapeSeq()
}

// state returns an event's state, coloured.
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

// bad returns a number that should be zero, coloured if it is not.
func (p printer) bad(n int64) string {
	if n == 0 {
		return "0"
	}
	return p.paint(count(n), text.FgRed)
}

// kind returns the kind of a notice, padded and coloured.
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
