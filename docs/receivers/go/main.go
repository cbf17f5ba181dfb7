// Command go is a service that takes the gateway's events: it verifies the
// signature, drops repeats, does the work and only then answers 204.
//
//	WEBHOOK_SECRET=whsec_… go run ./docs/receivers/go
//
// It listens on localhost:9000. The secret is one of those that `sign` names in
// the gateway's config.
package main

import (
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"os"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// maxBody is the largest event that is read. An event is a little larger than
// its callback, for which the gateway's max_body is 1 MiB by default.
const maxBody = 4 << 20

// event is the part of the gateway's event that this service needs.
type event struct {
	ID     string `json:"id"`
	TaskID string `json:"taskId"`
	Type   string `json:"type"`
	Status string `json:"status"` // "in_progress", "completed" or "failed"
}

// receiver takes events at any path.
type receiver struct {
	webhook *standardwebhooks.Webhook

	// work does the service's work for an event. If it fails, the gateway sends the
	// event again.
	work func(event) error

	// done has the ids of events whose work is done. A real service keeps them in its
	// database, in a table whose primary key is the id, and adds one in the same
	// transaction as the work.
	mu   sync.Mutex
	done map[string]bool
}

func newReceiver(secret string, work func(event) error) (*receiver, error) {
	if secret == "" {
		return nil, errors.New("the secret is empty; set WEBHOOK_SECRET to one that the gateway's `sign` names")
	}
	webhook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return nil, err
	}
	return &receiver{webhook: webhook, work: work, done: make(map[string]bool)}, nil
}

// ServeHTTP takes one event. The signature is over the body as it arrived, so
// the body is verified before it is parsed.
func (rc *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, "the body cannot be read", http.StatusBadRequest)
		return
	}
	if err := rc.webhook.Verify(body, r.Header); err != nil {
		http.Error(w, "the signature is not valid", http.StatusUnauthorized)
		return
	}
	var e event
	if err := json.Unmarshal(body, &e); err != nil {
		http.Error(w, "the body is not an event", http.StatusBadRequest)
		return
	}

	rc.mu.Lock()
	defer rc.mu.Unlock()
	if !rc.done[e.ID] {
		if err := rc.work(e); err != nil {
			log.Printf("event %s: %v", e.ID, err)
			http.Error(w, "the work failed", http.StatusInternalServerError)
			return
		}
		rc.done[e.ID] = true
	}
	w.WriteHeader(http.StatusNoContent)
}

func main() {
	rc, err := newReceiver(os.Getenv("WEBHOOK_SECRET"), func(e event) error {
		log.Printf("task %s (%s) is %s", e.TaskID, e.Type, e.Status)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Addr: "localhost:9000", Handler: rc, ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}
