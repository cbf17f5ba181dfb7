package command

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// outgoing is how requests are made to a URL that the user gives: by send and listen.
type outgoing struct {
	url     string
	timeout time.Duration

	// header replaces what the command itself sends; a field without values is not sent.
	header http.Header
	host   string // the header Host, "" for that of the URL

	// addresses are where to connect for a host and port, or for any host (*) and a port.
	addresses map[string][]string
	insecure  bool
}

func addOutgoingFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayP("header", "H", nil, "Send this header field, \"Name: value\", in place of one that is sent anyway; \"Name:\" sends none; repeatable")
	flags.StringArray("resolve", nil, "Connect to this address for a host and port, such as example.com:443:127.0.0.1; repeatable")
	flags.BoolP("insecure", "k", false, "Do not verify the certificate of an https URL")
	flags.Duration("timeout", 30*time.Second, "How long to wait for an answer")
	completeNothing(cmd, "header", "resolve", "timeout")
}

// outgoingFlags returns what the flags of addOutgoingFlags say about requests to a URL. It
// is an argument or the value of a flag; what it is called goes into errors.
func outgoingFlags(cmd *cobra.Command, called, target string) (*outgoing, error) {
	u, err := url.Parse(target)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		return nil, fmt.Errorf("%s%q is no URL to send to: expected one that begins with http:// or https:// and has a host", called, target)
	}
	flags := cmd.Flags()
	o := &outgoing{url: target, header: make(http.Header)}
	o.insecure, _ = flags.GetBool("insecure")
	if o.timeout, _ = flags.GetDuration("timeout"); o.timeout <= 0 {
		return nil, fmt.Errorf("--timeout %s: expected more than 0", o.timeout)
	}
	lines, _ := flags.GetStringArray("header")
	for _, line := range lines {
		if err := o.addHeader(line); err != nil {
			return nil, fmt.Errorf("--header %w", err)
		}
	}
	entries, _ := flags.GetStringArray("resolve")
	return o, o.resolve(u, entries)
}

var fieldName = regexp.MustCompile("^[!#$%&'*+\\-.^_`|~0-9A-Za-z]+$")

// madeHeaders are fields that follow from the body, and cannot be given.
var madeHeaders = []string{"Content-Length", "Transfer-Encoding", "Trailer"}

// addHeader adds a field as curl's -H takes it.
func (o *outgoing) addHeader(line string) error {
	name, value, found := strings.Cut(line, ":")
	empty := false
	if !found {
		name, empty = strings.CutSuffix(line, ";")
	}
	value = strings.Trim(value, " \t")
	key := http.CanonicalHeaderKey(name)
	switch {
	case !found && !empty || !fieldName.MatchString(name):
		return fmt.Errorf(`%q is no header field: expected "Name: value", such as "X-Forwarded-For: 203.0.113.7"`, cutEnd(name, 64))
	case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
		return fmt.Errorf("%s: its value has a control character: expected one line of text", key)
	case slices.Contains(madeHeaders, key):
		return fmt.Errorf("%s cannot be given: it follows from the body", key)
	case key == "Host" && value == "":
		return fmt.Errorf(`%s has no value: expected one, such as "Host: example.com"`, key)
	case key == "Host":
		o.host = value
	case value == "" && !empty:
		o.header[key] = nil
	default:
		o.header.Add(key, value)
	}
	return nil
}

// cutEnd cuts a text, which is not for a terminal yet.
func cutEnd(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// resolve reads entries as curl's --resolve takes them. At least one must be for the
// URL's host and port: else it would go unseen that none is used.
func (o *outgoing) resolve(u *url.URL, entries []string) error {
	o.addresses = make(map[string][]string, len(entries))
	for _, entry := range entries {
		target, addresses, ok := parseResolve(entry)
		if !ok {
			return fmt.Errorf("--resolve %q: expected host:port:address, such as %s:127.0.0.1", entry, dialed(u))
		}
		o.addresses[target] = addresses
	}
	if len(entries) > 0 && o.connectTo(dialed(u)) == nil {
		return fmt.Errorf("--resolve is for %s, but the URL is for %s",
			strings.Join(slices.Sorted(maps.Keys(o.addresses)), ", "), dialed(u))
	}
	return nil
}

// dialed returns the host and port of a URL.
func dialed(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return strings.ToLower(net.JoinHostPort(u.Hostname(), port))
}

// resolveEntry matches host:port:addresses. Only an IPv6 address has colons.
var resolveEntry = regexp.MustCompile(`^(\[[^][]+\]|[^][:]+):([0-9]{1,5}):(.+)$`)

func parseResolve(entry string) (target string, addresses []string, ok bool) {
	parts := resolveEntry.FindStringSubmatch(entry)
	if parts == nil {
		return "", nil, false
	}
	host, port := strings.Trim(parts[1], "[]"), parts[2]
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", nil, false
	}
	for address := range strings.SplitSeq(parts[3], ",") {
		ip, err := netip.ParseAddr(strings.Trim(address, "[]"))
		if err != nil {
			return "", nil, false
		}
		addresses = append(addresses, net.JoinHostPort(ip.String(), port))
	}
	return strings.ToLower(net.JoinHostPort(host, port)), addresses, true
}

// connectTo returns the addresses that --resolve gives for a host and port, nil for none.
func (o *outgoing) connectTo(target string) []string {
	if addresses := o.addresses[strings.ToLower(target)]; addresses != nil {
		return addresses
	}
	_, port, err := net.SplitHostPort(target)
	if err != nil {
		return nil
	}
	return o.addresses[net.JoinHostPort("*", port)]
}

// client returns a client that makes the requests, and keeps so many connections. A
// transport other than nil replaces the network.
func (o *outgoing) client(transport http.RoundTripper, connections int) *http.Client {
	if transport == nil {
		network := &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         o.dial,
			MaxIdleConnsPerHost: connections,
			ForceAttemptHTTP2:   true,
			DisableCompression:  true,
		}
		if o.insecure {
			network.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the user says so
		}
		if len(o.addresses) > 0 {
			network.Proxy = nil // it would connect elsewhere
		}
		transport = network
	}
	return &http.Client{
		Transport: transport,
		Timeout:   o.timeout,
		// the answer of the URL itself counts
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (o *outgoing) dial(ctx context.Context, network, target string) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: dialTimeout}
	addresses := o.connectTo(target)
	if addresses == nil {
		return dialer.DialContext(ctx, network, target)
	}
	var errs []error
	for _, address := range addresses {
		conn, err := dialer.DialContext(ctx, network, address)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// complete sets what the user has given for a request.
func (o *outgoing) complete(r *http.Request) {
	maps.Copy(r.Header, o.header)
	if o.host != "" {
		r.Host = o.host
	}
}

// warn says what is not as safe as usual.
func (o *outgoing) warn(s *session) {
	if o.insecure && strings.HasPrefix(strings.ToLower(o.url), "https:") {
		s.note("The certificate is not verified (--insecure): whoever answers may be anyone.")
	}
}

// noAnswer describes why a request had no answer.
func noAnswer(err error) string {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err // the URL is known
	}
	text := err.Error()
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		text += "; --insecure sends all the same"
	}
	return strings.ReplaceAll(text, "\n", "; ")
}
