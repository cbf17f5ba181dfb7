package command

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// askingState says that Fotor cannot be asked, and why.
func askingState(a *control.Asking) string {
	if a.State == control.AskingKeyRefused {
		return fmt.Sprintf("Fotor refuses the key of fotor_api (%s): nothing is asked until the config is loaded again", quoted(a.Reason))
	}
	return fmt.Sprintf("Fotor's API at %s cannot be asked: %s", quoted(a.URL), quoted(a.Reason))
}

// askingField says whether Fotor can be asked.
func (s *session) askingField(f *fields, a *control.Asking) {
	if a == nil {
		return
	}
	if a.State != control.AskingWorks {
		f.add("Fotor API", s.paint(askingState(a), text.FgRed)+", since "+s.localTimeWithAge(a.Since))
	} else {
		f.add("Fotor API", s.askingRate(a))
	}
	if c := a.Confirm; c != nil {
		f.add("Confirm", "what ends a task; while Fotor cannot be asked: "+quoted(c.OnFailure)+", patience "+configDuration(c.Patience))
	}
}

// askingRate says how often Fotor is asked at most, and why that is less than the config's
// rate.
func (s *session) askingRate(a *control.Asking) string {
	part, reasons := a.ConfigRate, []string(nil)
	if share := a.Share; share != nil {
		switch {
		case share.Reason != "":
			return s.paint("not asked, because the other Caddys that share the rate cannot be told: "+quoted(share.Reason), text.FgRed)
		case share.Rate == 0:
			return "asked in a few seconds, when other Caddys know that the rate is to be shared"
		case share.Askers > 1:
			part = min(part, share.Rate)
			reasons = append(reasons, fmt.Sprintf("%d Caddys ask", share.Askers))
		}
	}
	switch {
	case a.Rate == 0:
		reasons = append(reasons, "Fotor answered with a Retry-After")
	case a.Rate < part:
		reasons = append(reasons, "Fotor answered that it was asked too often or another handler with its key has a lower rate")
	}
	rate := perSecond(a.ConfigRate)
	if len(reasons) > 0 {
		rate = fmt.Sprintf("%s of %s, because %s", perSecond(min(a.Rate, part)), rate, strings.Join(reasons, " and "))
	}
	return fmt.Sprintf("asked at %s, at most %s", quoted(a.URL), rate)
}

// perSecond returns a rate with two decimals at most, or of one below 1 with two digits that
// matter.
func perSecond(rate float64) string {
	digits := 2
	if rate > 0 && rate < 1 {
		digits = 1 - int(math.Floor(math.Log10(rate)))
	}
	text := strconv.FormatFloat(rate, 'f', digits, 64)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".") + "/s"
}
