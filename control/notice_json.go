package control

import (
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// AppendJSON appends the notice as encoding/json would encode it, in a fifth of the
// time. That matters because every notice is encoded for each follower while callbacks
// arrive.
func (n *Notice) AppendJSON(b []byte) []byte {
	b = append(b, `{"kind":`...)
	b = appendText(b, n.Kind)
	b = append(b, `,"handler":`...)
	b = appendText(b, n.Handler)
	b = append(b, `,"at":`...)
	b = appendTime(b, n.At)
	b = appendMember(b, `,"id":`, n.ID)
	b = appendMember(b, `,"taskId":`, n.TaskID)
	b = appendMember(b, `,"type":`, n.Type)
	b = appendMember(b, `,"status":`, n.Status)
	b = appendMember(b, `,"origin":`, n.Origin)
	b = appendMember(b, `,"destination":`, n.Destination)
	b = appendNumber(b, `,"attempt":`, int64(n.Attempt))
	b = appendNumber(b, `,"upstreamStatus":`, int64(n.UpstreamStatus))
	if n.DurationMS != 0 {
		b = append(b, `,"durationMs":`...)
		b = strconv.AppendFloat(b, n.DurationMS, 'f', -1, 64)
	}
	if n.Due != nil {
		b = append(b, `,"due":`...)
		b = appendTime(b, *n.Due)
	}
	b = appendMember(b, `,"reason":`, n.Reason)
	b = appendNumber(b, `,"quarantineId":`, n.QuarantineID)
	b = appendNumber(b, `,"count":`, n.Count)
	b = appendMember(b, `,"sourceIp":`, n.SourceIP)
	b = appendNumber(b, `,"problems":`, int64(n.Problems))
	b = appendMember(b, `,"by":`, n.By)
	if n.Until != nil {
		b = append(b, `,"until":`...)
		b = appendTime(b, *n.Until)
	}
	if n.Since != nil {
		b = append(b, `,"since":`...)
		b = appendTime(b, *n.Since)
	}
	b = appendNumber(b, `,"asked":`, int64(n.Asked))
	b = appendNumber(b, `,"missed":`, n.Missed)
	return append(b, '}')
}

// appendText appends a JSON string. AppendQuote replaces invalid UTF-8 and returns an
// error then, which does not matter for a text that people read.
func appendText(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s)
	return b
}

func appendTime(b []byte, t time.Time) []byte {
	b = append(b, '"')
	b = t.AppendFormat(b, time.RFC3339Nano)
	return append(b, '"')
}

func appendMember(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return appendText(append(b, name...), value)
}

func appendNumber(b []byte, name string, value int64) []byte {
	if value == 0 {
		return b
	}
	return strconv.AppendInt(append(b, name...), value, 10)
}
