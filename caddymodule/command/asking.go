package command

import (
	"fmt"
	"strconv"

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
		return
	}
	rate := perSecond(a.ConfigRate)
	if a.Rate < a.ConfigRate {
		rate = fmt.Sprintf("%s of %s, because it answered that it was asked too often", perSecond(a.Rate), rate)
	}
	f.add("Fotor API", fmt.Sprintf("asked at %s, at most %s", quoted(a.URL), rate))
}

// perSecond returns a rate with at most two digits that matter.
func perSecond(rate float64) string { return strconv.FormatFloat(rate, 'g', 2, 64) + "/s" }
