package main

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The limits of a run.
const (
	connections = 64
	maxTime     = 5 * time.Minute
	maxRounds   = 99
	maxPending  = 4_000_000 // below the default max_size
)

// options are the options of the command.
type options struct {
	time    time.Duration
	rounds  int
	only    []contender
	dir     string
	pending int
	caddy   string
	log     string
	profile string
	grow    []table // nil without -grow
}

func parseOptions(args []string) (*options, error) {
	var o options
	var only, inbox string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.DurationVar(&o.time, "time", 10*time.Second, "how long each round loads each contender, up to "+maxTime.String())
	flags.IntVar(&o.rounds, "rounds", 3, "rounds; the medians count")
	flags.StringVar(&only, "only", "", "comma-separated keys of the contenders to run (default all: "+contenderKeys(contenders)+"; with -inbox nats "+contenderKeys(natsContenders)+")")
	flags.StringVar(&inbox, "inbox", "sqlite", "sqlite, or nats for the inbox on three NATS servers beside it")
	flags.StringVar(&o.dir, "dir", "", "directory on the disk to store on (default the system's temporary directory)")
	flags.IntVar(&o.pending, "pending", 1_000_000, "events that the contender with a backlog starts with")
	flags.StringVar(&o.caddy, "caddy", "", "a Caddy binary to measure instead of building one")
	flags.StringVar(&o.log, "log", "", "log level of every contender, shown on stderr (default WARN, shown only if one fails)")
	flags.StringVar(&o.profile, "profile", "", "directory for a CPU and a heap profile of each contender, taken in a round of their own")
	grow := flags.Bool("grow", false, "measure accepting and delivering with more and more stored events, connections and larger bodies, each by itself")
	lists := make([]string, len(dimensions))
	for i, d := range dimensions {
		flags.StringVar(&lists[i], d.flag, d.all, "with -grow, comma-separated: "+d.what)
	}
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q: expected only flags", flags.Arg(0))
	}
	all, err := contendersOn(inbox)
	if err != nil {
		return nil, err
	}
	chosen, err := chooseContenders(all, only)
	o.only = chosen
	var errGrow error
	if *grow {
		o.grow, errGrow = tablesOf(lists)
		if only != "" || inbox != "sqlite" || o.profile != "" {
			errGrow = errors.Join(errGrow, errors.New("-grow compares a, b, c and d on SQLite: expected neither -only, -inbox nor -profile beside it"))
		}
	} else {
		flags.Visit(func(f *flag.Flag) {
			if slices.ContainsFunc(dimensions, func(d dimension) bool { return d.flag == f.Name }) {
				errGrow = errors.Join(errGrow, fmt.Errorf("-%s needs -grow", f.Name))
			}
		})
	}
	return &o, errors.Join(err, errGrow,
		within("-time", o.time, 100*time.Millisecond, maxTime),
		within("-rounds", o.rounds, 1, maxRounds),
		within("-pending", o.pending, 1, maxPending))
}

func within[T int | time.Duration](flag string, value, least, most T) error {
	if value < least || value > most {
		return fmt.Errorf("%s is %v: expected %v to %v", flag, value, least, most)
	}
	return nil
}

// contendersOn returns the contenders for an inbox.
func contendersOn(inbox string) ([]contender, error) {
	switch inbox {
	case "sqlite":
		return contenders, nil
	case "nats":
		return natsContenders, nil
	default:
		return nil, fmt.Errorf("-inbox is %q: expected sqlite or nats", inbox)
	}
}

func chooseContenders(from []contender, keys string) ([]contender, error) {
	if keys == "" {
		return from, nil
	}
	var chosen []contender
	for key := range strings.SplitSeq(keys, ",") {
		c, ok := contenderByKey(from, strings.TrimSpace(key))
		if !ok {
			return nil, fmt.Errorf("-only names %q: expected some of %s", key, contenderKeys(from))
		}
		chosen = append(chosen, c)
	}
	return chosen, nil
}
