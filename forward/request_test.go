package forward

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/signature"
)

const (
	oldSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	newSecret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
)

func testLease() *inbox.Lease {
	taskID := "39371b3800cc4a7e9e24867b0dfdf25b"
	body := []byte(`{"id":"x"}`)
	return &inbox.Lease{Attempt: 3, Event: &inbox.Event{
		ID:         inbox.NewID(taskID, body),
		TaskID:     taskID,
		Type:       "avatar",
		Status:     inbox.Completed,
		ReceivedAt: time.Date(2026, 11, 23, 12, 0, 0, 123456000, time.UTC),
		Body:       body,
	}}
}

func testRequest(t *testing.T, o *Options, lease *inbox.Lease, now time.Time) *http.Request {
	t.Helper()
	target, err := url.Parse("http://app/events")
	require.NoError(t, err)
	return o.request(context.Background(), target, lease, now)
}

// The off-the-shelf CloudEvents library takes the request as it is.
func TestRequestIsCloudEvent(t *testing.T) {
	lease := testLease()
	r := testRequest(t, &Options{Handler: "default"}, lease, time.Now())
	event, err := cloudevents.NewEventFromHTTPRequest(r)
	require.NoError(t, err)
	require.NoError(t, event.Validate())
	assert.Equal(t, lease.Event.ID, event.ID())
	assert.Equal(t, "/fotor_webhook/default", event.Source())
	assert.Equal(t, "com.fotor.task.completed", event.Type())
	assert.Equal(t, lease.Event.TaskID, event.Subject())
	assert.True(t, lease.Event.ReceivedAt.Equal(event.Time()), "%s", event.Time())
	assert.Equal(t, "application/json", event.DataContentType())
	assert.Equal(t, lease.Event.Body, event.Data())
	assert.Equal(t, "3", r.Header.Get("Fotor-Webhook-Attempt"))
	assert.NotNil(t, cehttp.NewMessageFromHttpRequest(r))
}

// The off-the-shelf Standard Webhooks library verifies the request with each of
// the secrets, and with no other.
func TestRequestIsStandardWebhook(t *testing.T) {
	secrets, err := signature.Parse([]string{oldSecret, newSecret})
	require.NoError(t, err)
	o := &Options{Handler: "default", Secrets: secrets}
	lease := testLease()
	r := testRequest(t, o, lease, time.Now())
	for secret, want := range map[string]bool{oldSecret: true, newSecret: true, "whsec_" + strings.Repeat("QUJD", 8): false} {
		wh, err := standardwebhooks.NewWebhook(secret)
		require.NoError(t, err)
		assert.Equal(t, want, wh.Verify(lease.Event.Body, r.Header) == nil, "secret %s", secret)
	}

	wh, err := standardwebhooks.NewWebhook(oldSecret)
	require.NoError(t, err)
	require.Error(t, wh.Verify([]byte(`{"id":"y"}`), r.Header), "another body")
	stale := testRequest(t, o, lease, time.Now().Add(-time.Hour))
	require.Error(t, wh.Verify(lease.Event.Body, stale.Header), "an old timestamp")
}

func TestUnsignedRequestHasNoSignature(t *testing.T) {
	r := testRequest(t, new(Options), testLease(), time.Now())
	assert.NotContains(t, r.Header, "Webhook-Signature")
	assert.NotEmpty(t, r.Header.Get("Webhook-Timestamp"))
}

func TestRequestBodyCanBeReadAgain(t *testing.T) {
	r := testRequest(t, new(Options), testLease(), time.Now())
	first, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	again, err := r.GetBody()
	require.NoError(t, err)
	second, err := io.ReadAll(again)
	require.NoError(t, err)
	assert.Equal(t, first, second)
	assert.Equal(t, testLease().Event.ID, r.Header.Get("Idempotency-Key"), "or net/http would not send it again")
}

// Whoever appends to a field, such as a header directive of the routes, changes no other.
func TestFieldsOfARequestAreIndependent(t *testing.T) {
	r := testRequest(t, new(Options), testLease(), time.Now())
	want := r.Header.Clone()
	for name := range want {
		r.Header.Add(name, "more")
		want.Add(name, "more")
	}
	assert.Equal(t, want, r.Header)
}
