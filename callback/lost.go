package callback

import (
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// Lost makes the event that says that nothing of a task's end could be found out. Its type
// is that of an earlier event of the task. A task is lost once: the id depends on the task
// alone. An id or a type that is not UTF-8 is written as the nearest text that is.
func Lost(taskID, taskType string, at time.Time) *inbox.Event {
	at = at.UTC().Truncate(time.Microsecond)
	e := &inbox.Event{
		ID:     inbox.NewID(taskID, []byte(`{"status":"lost"}`)),
		TaskID: taskID, Type: taskType, Status: inbox.Lost, ReceivedAt: at, Origin: inbox.FromAPI,
	}
	b := append([]byte(`{"id":"`), e.ID...)
	b = appendText(append(b, `","taskId":`...), taskID)
	b = appendText(append(b, `,"type":`...), taskType)
	b = append(b, `,"status":"lost","statusCode":null,"businessId":null,"resultUrl":null,"avatars":[],"sensitive":false,"extra":{},"receivedAt":"`...)
	b = AppendTime(b, at)
	e.Body = append(b, `","sourceIp":null,"origin":"api","confirmed":null,"revision":1}`...)
	return e
}

// appendText appends a text as a JSON string.
func appendText(b []byte, text string) []byte {
	b, _ = jsontext.AppendQuote(b, text) // what is not UTF-8 is replaced, and reported
	return b
}
