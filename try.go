package fotorwebhook

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/netip"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/dryrun"
)

// Try implements gateway.Handler: it makes the request of a client that is connected
// directly, as HTTP/2, where nothing is done about the connection, and takes it as any other.
func (f facts) Try(ctx context.Context, client netip.Addr, body []byte) control.Tried {
	q := &query{Handler: f.Handler}
	r := q.request(client, "") //nolint:contextcheck // it has the values of a request of its own
	within, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	r = r.WithContext(within) //nolint:contextcheck // see above
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
	r.Header.Set("Content-Type", mediaJSON)
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	var w dryrun.Answer
	if err := f.ServeHTTP(&w, r, nil); err != nil { // it writes to memory
		w.WriteHeader(http.StatusInternalServerError)
	}
	return control.Tried{Status: w.Status, Media: w.Header().Get("Content-Type"), Body: w.Body.Bytes()}
}
