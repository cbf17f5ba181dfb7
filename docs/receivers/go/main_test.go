package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"
)

const (
	secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	other  = "whsec_QUJDREVGR0hJSktMTU5PUFFSU1RVVldY"
	body   = `{"id":"e1","taskId":"t1","type":"avatar","status":"completed"}`
)

// signed returns an attempt as the gateway makes it.
func signed(t *testing.T, secret, body string, at time.Time) *http.Request {
	t.Helper()
	webhook, err := standardwebhooks.NewWebhook(secret)
	require.NoError(t, err)
	signature, err := webhook.Sign("e1", at, []byte(body))
	require.NoError(t, err)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/events", strings.NewReader(body))
	r.Header.Set("Webhook-Id", "e1")
	r.Header.Set("Webhook-Timestamp", strconv.FormatInt(at.Unix(), 10))
	r.Header.Set("Webhook-Signature", signature)
	return r
}

func answer(rc *receiver, r *http.Request) int {
	w := httptest.NewRecorder()
	rc.ServeHTTP(w, r)
	return w.Code
}

func TestReceiver(t *testing.T) {
	var worked []event
	var failure error
	rc, err := newReceiver(secret, func(e event) error {
		if failure == nil {
			worked = append(worked, e)
		}
		return failure
	})
	require.NoError(t, err)
	now := time.Now()

	require.Equal(t, http.StatusUnauthorized, answer(rc, signed(t, other, body, now)), "another secret")
	require.Equal(t, http.StatusUnauthorized, answer(rc, signed(t, secret, body, now.Add(-time.Hour))), "an old attempt")
	forged := signed(t, secret, body, now)
	forged.Body = http.NoBody
	require.Equal(t, http.StatusUnauthorized, answer(rc, forged), "another body")
	require.Equal(t, http.StatusBadRequest, answer(rc, signed(t, secret, "[]", now)), "not an event")
	require.Empty(t, worked)

	failure = errors.New("the database is down")
	require.Equal(t, http.StatusInternalServerError, answer(rc, signed(t, secret, body, now)))
	failure = nil
	require.Equal(t, http.StatusNoContent, answer(rc, signed(t, secret, body, now)))
	require.Equal(t, http.StatusNoContent, answer(rc, signed(t, secret, body, now)), "a repeat")
	require.Equal(t, []event{{ID: "e1", TaskID: "t1", Type: "avatar", Status: "completed"}}, worked)
}

func TestReceiverNeedsASecret(t *testing.T) {
	_, err := newReceiver("", nil)
	require.ErrorContains(t, err, "WEBHOOK_SECRET")
}
