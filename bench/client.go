package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxReply bounds what bench reads of one answer.
const maxReply = 64 << 20

// client makes bench's own few requests; the load has its own client.
var client = &http.Client{Timeout: time.Minute}

func get(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	status, body, err := do(request)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("GET %s: status %d: %.200s", url, status, body)
	}
	return body, err
}

func post(ctx context.Context, url string, body []byte) (status int, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/json")
	status, _, err = do(request)
	return status, err
}

func do(request *http.Request) (status int, body []byte, err error) {
	response, err := client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = response.Body.Close() }() // it has been read, or reading has failed
	body, err = io.ReadAll(io.LimitReader(response.Body, maxReply))
	return response.StatusCode, body, err
}

// deliveries returns how many deliveries to a destination, or to all with "", the
// gateway's inbox has in a state.
func (s *server) deliveries(ctx context.Context, destination, state string) (int64, error) {
	text, err := get(ctx, "http://"+s.admin+"/metrics")
	if err != nil {
		return 0, err
	}
	return parseDeliveries(string(text), destination, state)
}

// parseDeliveries finds the number of deliveries in a state in Prometheus's text format.
func parseDeliveries(text, destination, state string) (sum int64, err error) {
	const metric = "caddy_fotor_webhook_deliveries{"
	labels := []string{`state="` + state + `"`}
	if destination != "" {
		labels = append(labels, `destination="`+destination+`"`)
	}
	found := false
	for line := range strings.Lines(text) {
		missing := func(label string) bool { return !strings.Contains(line, label) }
		if !strings.HasPrefix(line, metric) || slices.ContainsFunc(labels, missing) {
			continue
		}
		_, value, _ := strings.Cut(line, "} ")
		count, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil {
			return 0, fmt.Errorf("metric %q: %w", line, err)
		}
		sum += int64(count)
		found = true
	}
	if !found {
		return 0, fmt.Errorf("no metric %s…%s} among the server's metrics", metric, strings.Join(labels, ","))
	}
	return sum, nil
}
