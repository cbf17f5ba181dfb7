package command

import (
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// printer formats values. For people it aligns columns and may use colours; otherwise it
// separates columns by tabs and cuts nothing.
type printer struct {
	color   bool
	aligned bool

	// width returns how many characters a line of the terminal has; 0 for any number. It is
	// asked for each table, because a terminal's size may change. nil means 0.
	width func() int
}

// room is width for a printer that may have none.
func (p printer) room() int {
	if p.width == nil || !p.aligned {
		return 0
	}
	return p.width()
}

// column is a column of a table. On a terminal that is too narrow, columns are shortened,
// and left out where even that is not enough: those with the highest rank first, and of
// equal ones the last.
type column struct {
	title string
	right bool // numbers
	rank  int  // 0 is the most important

	// width is the least width of a table that is printed in parts, so that these line up.
	width int

	// least is the width to which the column may be cut; 0 if it is never cut.
	least int

	// short, if not nil, shortens the cells of a column that is not cut. Before any is cut,
	// these are shortened.
	short func(cell string) string
}

// gap is what stands between columns.
const gap = "  "

// mark stands where something was cut off.
const mark = "…"

// table prints rows, perhaps in parts: all parts have the same columns with the same widths.
type table struct {
	printer
	columns []column
	widths  []int // of the columns for people, -1 for one that is left out; nil before the first part
	limit   int   // the terminal's width when that was decided; 0 for any
}

// table formats rows. Their cells must be safe for a terminal; they may be painted.
func (p printer) table(columns []column, rows [][]string) string {
	t := &table{printer: p, columns: columns}
	return t.part(rows, false)
}

// part formats rows, with the header if they are the first ones. If more may follow, the
// columns get their least widths.
func (t *table) part(rows [][]string, more bool) string {
	var b strings.Builder
	first := t.widths == nil
	if first {
		t.widths = t.fit(rows, more)
		titles := make([]string, len(t.columns))
		for i, c := range t.columns {
			titles[i] = t.paint(c.title, text.Bold)
		}
		t.write(&b, titles)
	}
	for _, cells := range rows {
		t.write(&b, cells)
	}
	return b.String()
}

// fit returns the widths of the columns for those rows.
func (t *table) fit(rows [][]string, more bool) []int {
	whole, short := make([]int, len(t.columns)), make([]int, len(t.columns))
	for i, c := range t.columns {
		whole[i] = shownWidth(c.title)
		if more {
			whole[i] = max(whole[i], c.width)
		}
		short[i] = shownWidth(c.title)
		if c.short != nil {
			short[i] = max(short[i], shownWidth(c.short(strings.Repeat("0", c.width))))
		}
		for _, cells := range rows {
			whole[i] = max(whole[i], shownWidth(cells[i]))
			if c.short != nil {
				short[i] = max(short[i], shownWidth(c.short(cells[i])))
			}
		}
		if c.short == nil {
			short[i] = whole[i]
		}
	}
	t.limit = t.room()
	return fit(t.columns, whole, short, t.limit)
}

// fit shortens columns, and leaves some out, until they fit a width; 0 is any width.
func fit(columns []column, whole, short []int, width int) []int {
	widths := slices.Clone(whole)
	if width <= 0 {
		return widths
	}
	least := make([]int, len(columns))
	order := make([]int, len(columns)) // the first one gives way first
	for i, c := range columns {
		order[i] = len(columns) - 1 - i
		least[i] = whole[i]
		switch {
		case c.short != nil:
			least[i] = min(least[i], short[i])
		case c.least > 0:
			least[i] = min(least[i], c.least)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return columns[b].rank - columns[a].rank })
	for len(order) > 1 && lineWidth(least, order) > width {
		widths[order[0]] = -1
		order = order[1:]
	}
	over := lineWidth(widths, order) - width
	for _, shorten := range []bool{true, false} { // nothing is cut as long as something can be shortened
		for _, i := range order {
			if over > 0 && (columns[i].short != nil) == shorten {
				give := widths[i] - least[i]
				if !shorten {
					give = min(give, over)
				}
				widths[i] -= give
				over -= give
			}
		}
	}
	last := order[len(order)-1]
	widths[last] = max(1, min(widths[last], width))
	return widths
}

// lineWidth is the width of a line with those columns.
func lineWidth(widths, columns []int) int {
	sum := len(gap) * (len(columns) - 1)
	for _, i := range columns {
		sum += widths[i]
	}
	return sum
}

// write formats a row. Where columns are not aligned, numbers have no separators.
func (t *table) write(b *strings.Builder, cells []string) {
	var line []string
	for i, c := range t.columns {
		cell := cells[i]
		switch width := t.widths[i]; {
		case !t.aligned && c.right:
			line = append(line, strings.ReplaceAll(cell, ",", ""))
		case !t.aligned:
			line = append(line, cell)
		case width < 0:
		default:
			line = append(line, t.cell(c, cell, width))
		}
	}
	if !t.aligned {
		b.WriteString(strings.Join(line, "\t") + "\n")
		return
	}
	b.WriteString(strings.TrimRight(strings.Join(line, gap), " ") + "\n")
}

// row formats the row of a table without an end, whose columns have their least widths. The
// last one takes the rest of the line. If the others are empty from the third on, it may
// begin there.
func (p printer) row(columns []column, cells []string, early bool) string {
	t := &table{printer: p, columns: columns}
	if !p.aligned {
		t.widths = make([]int, len(columns))
		var b strings.Builder
		t.write(&b, cells)
		return b.String()
	}
	t.widths = t.fit(nil, true)
	last := len(columns) - 1
	var line []string
	for i, width := range t.widths[:last] {
		if width < 0 || early && i > 1 {
			continue
		}
		line = append(line, t.cell(columns[i], cells[i], width))
	}
	line = append(line, cells[last])
	return cutLine(strings.TrimRight(strings.Join(line, gap), " "), t.limit) + "\n"
}

// cell returns a cell in its width. It is cut if the terminal's width is known; else a later
// part of the table may have wider cells than the first.
func (t *table) cell(c column, cell string, width int) string {
	if t.limit > 0 {
		if c.short != nil && shownWidth(cell) > width {
			cell = c.short(cell)
		}
		cell = snip(cell, width)
	}
	if c.right {
		return padding(cell, width) + cell
	}
	return cell + padding(cell, width)
}

// padding is what is missing to a width.
func padding(s string, width int) string { return strings.Repeat(" ", max(0, width-shownWidth(s))) }

// shownWidth is how many characters wide a text is on a terminal.
func shownWidth(s string) int { return text.StringWidthWithoutEscSequences(s) }

// snip cuts a text, perhaps painted, to a width.
func snip(s string, width int) string {
	if shownWidth(s) <= width {
		return s
	}
	if width <= shownWidth(mark) {
		return text.Trim(mark, width)
	}
	return text.Snip(s, width, mark)
}

// line cuts a line to the terminal's width.
func (p printer) line(s string) string { return cutLine(s, p.room()) }

func cutLine(s string, width int) string {
	if width <= 0 {
		return s
	}
	return snip(s, width)
}

// leastProse is the least width into which prose is wrapped. On a terminal that is narrower
// than that, nothing can be done.
const leastProse = 20

// prose wraps a text at the terminal's width, and indents all lines but the first.
func (p printer) prose(s string, indent int) string {
	width := p.room()
	if width <= 0 || shownWidth(s) <= width-indent {
		return s
	}
	room := max(leastProse, width-indent)
	lines := wrap(s, room)
	if slices.ContainsFunc(lines, func(line string) bool { return shownWidth(line) > room }) {
		lines = wrap(s, room-1) // go-pretty breaks a long word after a wide character that only half fits
	}
	return strings.Join(lines, "\n"+strings.Repeat(" ", indent))
}

func wrap(s string, width int) []string {
	lines := strings.Split(text.WrapSoft(s, width), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return lines
}

// fields is a list of names with values. Empty values are left out.
type fields struct {
	printer
	rows [][2]string
}

func (f *fields) add(name, value string) {
	if value != "" {
		f.rows = append(f.rows, [2]string{name, value})
	}
}

// String returns a line for each; values that are too long for the terminal go on below.
func (f *fields) String() string {
	var b strings.Builder
	widest := 0
	for _, row := range f.rows {
		widest = max(widest, shownWidth(row[0]))
	}
	indent := widest + len(gap)
	for _, row := range f.rows {
		name := f.paint(row[0], text.Bold)
		if !f.aligned {
			b.WriteString(name + "\t" + row[1] + "\n")
			continue
		}
		b.WriteString(name + padding(name, widest) + gap + f.prose(row[1], indent) + "\n")
	}
	return b.String()
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
	case "superseded", "skipped":
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

// kind returns the kind of a notice, coloured.
func (p printer) kind(kind string) string {
	shown := quoted(kind)
	switch kind {
	case control.Accepted:
		return p.paint(shown, text.FgCyan)
	case control.Delivered, control.Resumed:
		return p.paint(shown, text.FgGreen)
	case control.Retried, control.GivenBack, control.Held:
		return p.paint(shown, text.FgYellow)
	case control.Dead, control.Lost, control.Gap:
		return p.paint(shown, text.FgRed)
	case control.InQuarantine:
		return p.paint(shown, text.FgMagenta)
	}
	return shown
}

// shortID shortens the id of an event.
func shortID(s string) string {
	if !eventIDRegexp.MatchString(s) {
		return s
	}
	return inbox.ShortID(s)
}

// withoutYear shortens a time.
func withoutYear(s string) string {
	if len(s) != len(time.DateTime) || strings.Contains(s, "\x1b") {
		return s
	}
	return s[len("2006-"):]
}
