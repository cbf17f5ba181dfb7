package forward

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/callback"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/percent"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/signature"
)

// The prefix of every CloudEvents type; the task's status follows.
const eventTypePrefix = "com.fotor.task."

// request makes the request of one delivery attempt. Its body can be read
// again, and it has an Idempotency-Key, so that net/http itself may send it
// again when an idle connection turns out to be closed.
func (o *Options) request(ctx context.Context, target *url.URL, lease *inbox.Lease, now time.Time) *http.Request {
	e := lease.Event
	r := &http.Request{
		Method:        http.MethodPost,
		URL:           target,
		Host:          target.Host,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        o.header(ctx, e, lease.Attempt, now),
		Body:          io.NopCloser(bytes.NewReader(e.Body)),
		GetBody:       func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(e.Body)), nil },
		ContentLength: int64(len(e.Body)),
	}
	return r.WithContext(ctx)
}

// header makes the header of an attempt. It is CloudEvents 1.0 in binary mode (HTTP
// protocol binding 1.0.2) and Standard Webhooks 1.0.
func (o *Options) header(ctx context.Context, e *inbox.Event, attempt int, now time.Time) http.Header {
	fields := 14 // a map with room for more would be twice as large
	if len(o.Secrets) > 0 {
		fields++
	}
	header, values := make(http.Header, fields), make([]string, 0, fields)
	set := func(name, value string) {
		values = append(values, value)
		n := len(values)
		header[name] = values[n-1 : n : n] // so that what is appended to one does not change the next
	}
	set("Content-Type", "application/json")
	set("User-Agent", "Caddy-Fotor-Webhook")
	set("Ce-Specversion", "1.0")
	set("Ce-Id", e.ID)
	set("Ce-Source", "/fotor_webhook/"+o.Handler)
	set("Ce-Type", eventTypePrefix+e.Status.String())
	set("Ce-Subject", percent.Encode(e.TaskID, ""))
	set("Ce-Time", string(callback.AppendTime(nil, e.ReceivedAt)))
	set("Idempotency-Key", e.ID)
	set("Webhook-Id", e.ID)
	timestamp := strconv.FormatInt(now.Unix(), 10)
	set("Webhook-Timestamp", timestamp)
	if len(o.Secrets) > 0 {
		set("Webhook-Signature", signature.Make(o.Secrets, e.ID, timestamp, e.Body))
	}
	set("Fotor-Task-Type", percent.Encode(e.Type, ""))
	set("Fotor-Task-Status", e.Status.String())
	set("Fotor-Webhook-Attempt", strconv.Itoa(attempt))
	passTrace(ctx, e, header)
	return header
}

// copyHeader says that a request is a copy, and what for. The signature does not cover
// it.
const copyHeader = "Fotor-Webhook-Copy"

// Copy returns the header of a copy of an event, for a service that is being worked on:
// that of a first attempt that begins now, signed with the destination's secrets, and one
// that says that it is a copy. Nothing is sent. What routes would add is not in it, nor
// are user and password of the destination's URL.
func (f *Forwarder) Copy(e *inbox.Event) map[string]string {
	header := f.options.header(context.Background(), e, 1, time.Now())
	fields := make(map[string]string, len(header)+1)
	for name := range header {
		fields[name] = header.Get(name)
	}
	fields[copyHeader] = "listen"
	return fields
}
