package forward

import (
	"io"
	"sync"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// replayedBody is an event's body that routes can read several times: for a retry at
// another upstream, or for a second proxy in handle_response. After its end, and after
// Close, it begins again.
type replayedBody struct {
	mu   sync.Mutex // a transport may still read when the next one begins
	data []byte
	at   int
}

// Read implements io.Reader.
func (b *replayedBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.at == len(b.data) {
		b.at = 0
		return 0, io.EOF
	}
	n := copy(p, b.data[b.at:])
	b.at += n
	return n, nil
}

// Close implements io.Closer.
func (b *replayedBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at = 0
	return nil
}

// bufferRequests makes every reverse_proxy of the routes buffer the whole body before it
// sends it. Then each of its tries reads a copy from the start, even while the transport
// of the previous one is still sending. The memory is bounded by max_body.
func bufferRequests(routes caddyhttp.RouteList) {
	for i := range routes {
		for _, handler := range routes[i].Handlers {
			switch h := handler.(type) {
			case *caddyhttp.Subroute:
				bufferRequests(h.Routes)
				if h.Errors != nil {
					bufferRequests(h.Errors.Routes)
				}
			case *reverseproxy.Handler:
				h.RequestBuffers = -1
				for _, response := range h.HandleResponse {
					bufferRequests(response.Routes)
				}
			}
		}
	}
}
