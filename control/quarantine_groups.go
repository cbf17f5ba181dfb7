package control

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// This file groups the callbacks in quarantine by what is wrong with them.

// QuarantineGroup are callbacks that were refused alike.
type QuarantineGroup struct {
	// Key names the group; see Quarantined.GroupKey.
	Key string

	Status  int     // answered to the callers
	Problem Problem // the first one of the newest callback

	Callbacks int64 // distinct bodies
	Arrivals  int64 // how often they arrived
	Newest    int64 // the id of the one that arrived last

	First, Last time.Time // arrivals
}

// QuarantineGroups are the groups of the callbacks that arrived last, the group with the
// most arrivals first.
type QuarantineGroups struct {
	Groups []QuarantineGroup

	// Looked counts the callbacks that were looked at. More is true if there are others.
	Looked int64
	More   bool
}

// GroupQuarantine groups the callbacks that arrived last: at most that many, and fewer if
// reading them takes long, because they are large.
func GroupQuarantine(ctx context.Context, in inbox.Inbox, most int) (QuarantineGroups, error) {
	var answer QuarantineGroups
	groups := make(map[string]*QuarantineGroup)
	page := inbox.Page{Limit: min(most, PageDefault)}
	for began := time.Now(); ; {
		list, err := ListQuarantine(ctx, in, page)
		if err != nil {
			return QuarantineGroups{}, err
		}
		for i := range list.Callbacks {
			addToGroup(groups, &list.Callbacks[i])
		}
		answer.Looked += int64(len(list.Callbacks))
		page.Cursor, page.Limit = list.Next, min(most-int(answer.Looked), PageDefault)
		if answer.More = list.Next != ""; !answer.More || page.Limit <= 0 || time.Since(began) > listTime {
			break
		}
	}
	for _, g := range groups {
		answer.Groups = append(answer.Groups, *g)
	}
	slices.SortFunc(answer.Groups, func(a, b QuarantineGroup) int {
		return cmp.Or(cmp.Compare(b.Arrivals, a.Arrivals), b.Last.Compare(a.Last), cmp.Compare(b.Newest, a.Newest))
	})
	return answer, nil
}

func addToGroup(groups map[string]*QuarantineGroup, q *Quarantined) {
	key := q.GroupKey()
	g := groups[key]
	if g == nil {
		g = &QuarantineGroup{Key: key, First: q.ReceivedAt}
		groups[key] = g
	}
	g.Callbacks++
	g.Arrivals += q.Count
	if q.ReceivedAt.Before(g.First) {
		g.First = q.ReceivedAt
	}
	if g.Newest == 0 || q.LastAt.After(g.Last) {
		g.Last, g.Newest, g.Status, g.Problem = q.LastAt, q.ID, q.Status, q.firstProblem()
	}
}

// varying is what differs in problems that mean the same: positions in arrays, byte
// offsets, numbers, and the few characters of the body that a problem quotes.
var varying = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[0-9]+`)

// GroupKey returns 16 hexadecimal digits that callbacks have in common if they were
// refused alike: with the same status, and a first problem that differs in numbers and
// quoted texts at most. A callback may change its group when it arrives again.
func (q *Quarantined) GroupKey() string {
	first := q.firstProblem()
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %q %q", q.Status, varying.ReplaceAllString(first.Pointer, "#"), varying.ReplaceAllString(first.Detail, "#")))
	return hex.EncodeToString(sum[:8])
}

func (q *Quarantined) firstProblem() Problem {
	if len(q.Problems) == 0 {
		return Problem{}
	}
	return q.Problems[0]
}
