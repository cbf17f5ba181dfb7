package dashboard

import (
	"net/http"
	"strings"
)

// policy returns the Content-Security-Policy: style, script and data from here, images and
// videos from the listed hosts too, and nothing else from anywhere. There is no inline
// script or style. Hosts stand without a scheme, so a page over https takes https only.
func policy(imageHosts []string) string {
	media := ""
	if len(imageHosts) > 0 {
		media = " " + strings.Join(imageHosts, " ")
	}
	return strings.Join([]string{
		"default-src 'none'",
		"style-src 'self'",
		"script-src 'self'",
		"connect-src 'self'",
		"img-src 'self'" + media,
		"media-src 'self'" + media,
		"form-action 'self'",
		"base-uri 'none'",
		"frame-ancestors 'none'",
	}, "; ")
}

// setHeaders sets what every answer has.
func (s *site) setHeaders(header http.Header) {
	header.Set("Content-Security-Policy", s.policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Frame-Options", "DENY")
	header.Set("Referrer-Policy", "no-referrer")
	if s.handler.AllowActions {
		// with no-referrer, the Origin of a form is null: over http, it is all that tells
		// whose page has sent it
		header.Set("Referrer-Policy", "same-origin")
	}
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	// images and videos are asked for without cookies, where the page is secure enough for
	// the browser to obey this
	header.Set("Cross-Origin-Embedder-Policy", "credentialless")
	header.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	header.Set("X-Robots-Tag", "noindex, nofollow")
	header.Set("Cache-Control", "no-store")
}
