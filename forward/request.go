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
)

// The prefix of every CloudEvents type; the task's status follows.
const eventTypePrefix = "com.fotor.task."

// request makes the request of one delivery attempt. Its body can be read
// again, and it has an Idempotency-Key, so that net/http itself may send it
// again when an idle connection turns out to be closed.
//
// The headers are CloudEvents 1.0 in binary mode (HTTP protocol binding 1.0.2)
// and Standard Webhooks 1.0.
func (o *Options) request(ctx context.Context, target *url.URL, lease *inbox.Lease, now time.Time) *http.Request {
	e := lease.Event
	header := make(http.Header, 16)
	set := func(name, value string) { header[name] = []string{value} }
	set("Content-Type", "application/json")
	set("User-Agent", "Caddy-Fotor-Webhook")
	set("Ce-Specversion", "1.0")
	set("Ce-Id", e.ID)
	set("Ce-Source", "/fotor_webhook/"+o.Handler)
	set("Ce-Type", eventTypePrefix+e.Status.String())
	set("Ce-Subject", percent.Encode(e.TaskID, ""))
	set("Ce-Time", e.ReceivedAt.Format(callback.TimeLayout))
	set("Idempotency-Key", e.ID)
	set("Webhook-Id", e.ID)
	timestamp := strconv.FormatInt(now.Unix(), 10)
	set("Webhook-Timestamp", timestamp)
	if len(o.Secrets) > 0 {
		set("Webhook-Signature", signature(o.Secrets, e.ID, timestamp, e.Body))
	}
	set("Fotor-Task-Type", percent.Encode(e.Type, ""))
	set("Fotor-Task-Status", e.Status.String())
	set("Fotor-Webhook-Attempt", strconv.Itoa(lease.Attempt))
	passTrace(ctx, e, header)

	r := &http.Request{
		Method:        http.MethodPost,
		URL:           target,
		Host:          target.Host,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        header,
		Body:          io.NopCloser(bytes.NewReader(e.Body)),
		GetBody:       func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(e.Body)), nil },
		ContentLength: int64(len(e.Body)),
	}
	return r.WithContext(ctx)
}
