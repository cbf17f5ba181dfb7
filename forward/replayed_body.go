package forward

import (
	"io"
	"sync"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// replayedBody is an event's body for all the uses that the routes of a forward
// make of it: a retry at another upstream, the second proxy of a
// handle_response. Who has read it to its end or closed it leaves it at its
// beginning.
type replayedBody struct {
	mu   sync.Mutex // a transport may still read what another one is given already
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

// bufferRequests lets every reverse_proxy of the routes take the whole body
// before it sends it. Then each of its tries reads a copy from the start, also
// while the transport of the one before is still sending. The memory is bounded
// by max_body.
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
