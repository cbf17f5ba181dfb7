package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// dimension is something of which there may be more and more.
type dimension struct {
	flag, what string
	all        string // the default
	least      int
	most       int
	name       string // of the column

	// set returns a row of its table.
	set func(n int) tableRow
}

var dimensions = []dimension{
	{
		flag: "stored", what: "events in the inbox at the start, ascending: pending where callbacks are accepted only, else delivered",
		all: "0,1000000,5000000,20000000", least: 0, most: 50_000_000, name: "stored events",
		set: func(n int) tableRow { return tableRow{value: n, stored: n, shape: usualShape} },
	},
	{
		flag: "connections", what: "keep-alive connections of the load",
		all: "1,8,64,512", least: 1, most: 2048, name: "connections",
		set: func(n int) tableRow { return tableRow{value: n, shape: shape{Connections: n, Body: usualShape.Body}} },
	},
	{
		flag: "bodies", what: "sizes of the callbacks, in bytes",
		all: "300," + strconv.Itoa(len(sampleCallback)) + ",10000,100000", least: leastBody, most: 1_000_000, name: "bytes of a callback",
		set: func(n int) tableRow {
			return tableRow{value: n, shape: shape{Connections: usualShape.Connections, Body: n}}
		},
	},
}

// table is what is measured along one dimension.
type table struct {
	dimension
	rows []tableRow
}

// tableRow is one row of it, with the samples of each contender once it is measured.
type tableRow struct {
	value, stored int
	shape         shape
	samples       map[string][]sample
}

// tablesOf returns the tables for the lists of the dimensions. An empty list has no table.
func tablesOf(lists []string) (tables []table, err error) {
	for i, d := range dimensions {
		t := table{dimension: d}
		for text := range strings.SplitSeq(lists[i], ",") {
			if lists[i] == "" {
				break
			}
			n, errNumber := strconv.Atoi(strings.TrimSpace(text))
			switch {
			case errNumber != nil:
				err = errors.Join(err, fmt.Errorf("-%s has %q: expected numbers with commas between them, such as %s", d.flag, text, d.all))
			case n < d.least || n > d.most:
				err = errors.Join(err, fmt.Errorf("-%s has %d: expected %d to %d", d.flag, n, d.least, d.most))
			case len(t.rows) > 0 && n <= t.rows[len(t.rows)-1].value:
				err = errors.Join(err, fmt.Errorf("-%s has %d after %d: expected ascending numbers", d.flag, n, t.rows[len(t.rows)-1].value))
			default:
				t.rows = append(t.rows, d.set(n))
			}
		}
		if len(t.rows) > 0 {
			tables = append(tables, t)
		}
	}
	if len(tables) == 0 && err == nil {
		err = errors.New("-grow has nothing to measure: expected a number for at least one of -stored, -connections and -bodies")
	}
	return tables, err
}

// growing are the contenders of -grow with so many events stored: both peers and both ways
// of the gateway, whose inboxes have room for all.
func growing(stored int) []contender {
	chosen := contendersAmong("a", "b", "c", "d")
	for i := range chosen {
		c := &chosen[i]
		if !c.stores {
			continue
		}
		c.backlog = stored > 0
		path := heldPath
		if c.delivers {
			path = "/"
		}
		c.site = func(p places) string {
			return gateway("sqlite "+quote(p.inbox)+" {\n\t\t\tmax_size 1TiB\n\t\t}", "forward http://"+p.upstream+path)
		}
	}
	return chosen
}

// grow measures the tables and prints them.
func (b *bench) grow(ctx context.Context, m machine) error {
	for _, t := range b.opts.grow {
		if err := b.checkRoom(t.rows[len(t.rows)-1].stored); err != nil {
			return err
		}
	}
	for _, t := range b.opts.grow {
		before := 0
		for i := range t.rows {
			r := &t.rows[i]
			progress("%s: %d", t.name, r.value)
			contenders := growing(r.stored)
			if err := b.growTo(ctx, contenders, before, r.stored); err != nil {
				return err
			}
			before = r.stored
			b.shape = r.shape
			var err error
			if r.samples, err = b.rounds(ctx, contenders); err != nil {
				return err
			}
		}
	}
	return reportGrowth(os.Stdout, m, b.opts)
}

// growTo fills the inboxes, which have had so many events before. What the rounds store
// comes on top.
func (b *bench) growTo(ctx context.Context, contenders []contender, before, stored int) error {
	for i := range contenders {
		c := &contenders[i]
		if !c.backlog {
			continue
		}
		if before == 0 {
			if err := os.RemoveAll(b.home(c)); err != nil {
				return err
			}
		}
		if err := b.fill(ctx, c, stored-before); err != nil {
			return err
		}
	}
	return nil
}

// bytesStored is what a stored event takes on the disk, with its delivery, and inboxes is
// how many of them there are at once.
const (
	bytesStored = 1600
	inboxes     = 2
)

// checkRoom returns an error if that many events will not fit.
func (b *bench) checkRoom(stored int) error {
	var disk syscall.Statfs_t
	if err := syscall.Statfs(b.dir, &disk); err != nil {
		return fmt.Errorf("room in %s: %w", b.dir, err)
	}
	free := int64(disk.Bavail) * disk.Bsize //nolint:gosec // no disk is that large
	if need := int64(stored) * bytesStored * inboxes; need > free {
		return fmt.Errorf("-stored %d needs %d MiB on the disk of -dir, which has %d MiB: expected fewer events or another disk", stored, need>>20, free>>20)
	}
	return nil
}
