package nats

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/dustin/go-humanize"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	defaultStream         = "FOTOR_WEBHOOK"
	defaultReplicas       = 3
	maxReplicas           = 5
	defaultMaxSize        = 10 << 30
	minMaxSize            = 1 << 20
	defaultLease          = 30 * time.Second
	minLease              = time.Second
	maxLease              = 10 * time.Minute
	defaultPublishTimeout = 10 * time.Second // another server leads the stream by then
	minPublishTimeout     = 100 * time.Millisecond
	maxPublishTimeout     = 10 * time.Second // no callback may wait for longer
)

var streamName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func init() {
	caddy.RegisterModule(new(Inbox))
}

// Inbox keeps the events in streams of NATS JetStream, so that several Caddys
// can share them and none depends on its disk. It creates the streams when it
// first starts. It never changes a stream that it did not create.
//
// An event counts as stored once a majority of the stream's replicas has it.
type Inbox struct {
	// The NATS servers, as nats://host:port or tls://host:port. One of a
	// cluster is enough to find the others; more help if that one is down.
	// Global placeholders are supported. No default: at least one is required.
	URLs []string `json:"urls,omitempty"`

	// The name of the stream of events, 1 to 64 of A-Z, a-z, 0-9, _ and -. The
	// other streams have this name with _STATE and _QUARANTINE appended, with several
	// destinations _ALL and _TO_<destination>, and with tracked tasks _TASKS.
	// Handlers must not share a stream unless they are the same handler on
	// several Caddys. Default: FOTOR_WEBHOOK.
	Stream string `json:"stream,omitempty"`

	// The number of servers that keep a copy of each message, 1 to 5. With 3, one
	// of them may be down. Default: 3.
	Replicas int `json:"replicas,omitempty"`

	// The size in bytes of the stream of events on each server at which no more
	// events are taken: callers are answered 503 and nothing is lost. At least
	// 1 MiB. Default: 10 GiB.
	MaxSize int64 `json:"max_size,omitempty"`

	// The path of a credentials file with a user's JWT and its NKey seed. Global
	// placeholders are supported. Default: none.
	Credentials string `json:"credentials,omitempty"`

	// The path of a file with an NKey seed. Global placeholders are supported.
	// Default: none.
	NKey string `json:"nkey,omitempty"`

	// The name of a user who logs in with a password. Global placeholders are
	// supported. Default: none.
	User string `json:"user,omitempty"`

	// The password of the user. Global placeholders are supported, such as
	// {env.NATS_PASSWORD} and {file./run/secrets/nats}. Default: none.
	Password string `json:"password,omitempty"`

	// TLS to the servers. A tls:// URL turns it on too. Default: as the URLs say.
	TLS *TLS `json:"tls,omitempty"`

	// How long an event that was handed out for delivery waits for a sign of
	// life from its Caddy, 1s to 10m, until it is handed out again. A Caddy
	// that is merely slow gives one in time. Default: 30s.
	Lease caddy.Duration `json:"lease,omitempty"`

	// How long a callback waits for NATS, 100ms to 10s, before its caller is
	// answered 503. When a server dies the others elect a leader in 4 to 10 s:
	// with a shorter timeout callbacks are refused meanwhile. If there has been
	// no connection at all for 2 s they are refused at once. Default: 10s.
	PublishTimeout caddy.Duration `json:"publish_timeout,omitempty"`

	// Whether a config is loaded although no NATS server can be reached. Callers
	// are answered 503 until one can. Default: false, the load fails.
	StartWithoutServer bool `json:"start_without_server,omitempty"`
}

// TLS configures how the servers and Caddy authenticate each other.
type TLS struct {
	// The path of a file with the certificates, in PEM, of the authorities that
	// are trusted. Global placeholders are supported. Default: those of the system.
	CA string `json:"ca,omitempty"`

	// The path of a file with a client's certificate, in PEM; it needs a key. Global
	// placeholders are supported. Default: none.
	Cert string `json:"cert,omitempty"`

	// The path of a file with the certificate's key, in PEM. Global placeholders
	// are supported. Default: none.
	Key string `json:"key,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*Inbox) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.fotor_webhook.inbox.nats",
		New: func() caddy.Module { return new(Inbox) },
	}
}

// Provision resolves the placeholders in the options that identify the storage,
// and sets defaults. Placeholders in secrets are resolved when the inbox is
// opened.
func (i *Inbox) Provision(caddy.Context) error {
	for n, raw := range i.URLs {
		// The value of a placeholder may be secret, so errors do not show the
		// URL.
		u, err := caddy.NewReplacer().ReplaceOrErr(raw, true, true)
		if err != nil {
			return fmt.Errorf("inbox nats: url %d of %d: %w", n+1, len(i.URLs), err)
		}
		if i.URLs[n], err = cleanURL(u); err != nil {
			return fmt.Errorf("inbox nats: url %d of %d: %w", n+1, len(i.URLs), err)
		}
	}
	if i.Stream == "" {
		i.Stream = defaultStream
	}
	if i.Replicas == 0 {
		i.Replicas = defaultReplicas
	}
	if i.MaxSize == 0 {
		i.MaxSize = defaultMaxSize
	}
	if i.Lease == 0 {
		i.Lease = caddy.Duration(defaultLease)
	}
	if i.PublishTimeout == 0 {
		i.PublishTimeout = caddy.Duration(defaultPublishTimeout)
	}
	return nil
}

// cleanURL checks a server's address and normalizes it.
func cleanURL(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", fmt.Errorf("it is no URL; expected nats://host:port or tls://host:port")
	}
	switch {
	case u.Scheme != "nats" && u.Scheme != "tls", u.Hostname() == "":
		return "", fmt.Errorf("bad value; expected nats://host:port or tls://host:port")
	case u.User != nil:
		return "", fmt.Errorf("it has a user in it; put it into the option user, nkey or credentials")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("it has more than a host and a port; expected nats://host:port or tls://host:port")
	}
	host := strings.ToLower(u.Host)
	if u.Port() == "" {
		host = strings.TrimSuffix(host, ":") + ":4222"
	}
	return u.Scheme + "://" + host, nil
}

// Validate reports settings that cannot work.
func (i *Inbox) Validate() error {
	if err := i.validate(); err != nil {
		return fmt.Errorf("inbox nats: %w", err)
	}
	return nil
}

func (i *Inbox) validate() error {
	lease, publish := time.Duration(i.Lease), time.Duration(i.PublishTimeout)
	var ways []string
	for name, set := range map[string]bool{"credentials": i.Credentials != "", "nkey": i.NKey != "", "user": i.User != ""} {
		if set {
			ways = append(ways, name)
		}
	}
	slices.Sort(ways)
	switch {
	case len(i.URLs) == 0:
		return fmt.Errorf("no server is given; expected at least one URL, such as nats://nats.internal:4222")
	case !streamName.MatchString(i.Stream):
		return fmt.Errorf("stream is %.80q; it must be 1 to 64 of A-Z, a-z, 0-9, _ and -", i.Stream)
	case i.Replicas < 1 || i.Replicas > maxReplicas:
		return fmt.Errorf("replicas is %d; it must be 1 to %d", i.Replicas, maxReplicas)
	case i.MaxSize < minMaxSize:
		return fmt.Errorf("max_size is %d bytes; it must be at least %s", i.MaxSize, humanize.IBytes(minMaxSize))
	case lease < minLease || lease > maxLease:
		return fmt.Errorf("lease is %s; it must be %s to %s", lease, minLease, maxLease)
	case publish < minPublishTimeout || publish > maxPublishTimeout:
		return fmt.Errorf("publish_timeout is %s; it must be %s to %s", publish, minPublishTimeout, maxPublishTimeout)
	case len(ways) > 1:
		return fmt.Errorf("%s are given; they exclude each other", strings.Join(ways, " and "))
	case i.User == "" && i.Password != "":
		return fmt.Errorf("password is given without user")
	case i.TLS != nil && (i.TLS.Cert == "") != (i.TLS.Key == ""):
		return fmt.Errorf("tls has only one of cert and key; they belong together")
	}
	return nil
}

// Key identifies the streams that Open would open: "nats:", the servers in
// alphabetical order, and the stream.
func (i *Inbox) Key(string) string {
	urls := slices.Clone(i.URLs)
	slices.Sort(urls)
	return "nats:" + strings.Join(slices.Compact(urls), ",") + "/" + i.Stream
}

// StartsWithoutStorage reports whether a config is loaded while no NATS server
// can be reached.
func (i *Inbox) StartsWithoutStorage() bool { return i.StartWithoutServer }

// Open connects, creates or checks the streams, and proves with a durable write
// that it can store.
func (i *Inbox) Open(ctx context.Context, name string, p inbox.Policy, log *zap.Logger) (inbox.Inbox, error) {
	secrets, err := i.secrets()
	if err == nil {
		var s *store
		if s, err = open(ctx, i.options(name, p, log), secrets); err == nil {
			return s, nil
		}
	}
	return nil, fmt.Errorf("inbox nats: %w", err)
}

func (i *Inbox) options(name string, p inbox.Policy, log *zap.Logger) options {
	return options{
		name: name, urls: i.URLs, stream: i.Stream, tls: i.TLS, policy: p, log: log,
		startWithoutServer: i.StartWithoutServer, settings: i.settings(), limits: defaultLimits,
	}
}

func (i *Inbox) settings() settings {
	return settings{
		replicas: i.Replicas, maxSize: i.MaxSize,
		lease: time.Duration(i.Lease), publishTimeout: time.Duration(i.PublishTimeout),
	}
}

// Apply applies the settings and the policy to an open inbox. New credentials
// are used for the next connection. Servers and TLS stay as they are until the
// inbox is closed.
func (i *Inbox) Apply(in inbox.Inbox, p inbox.Policy) {
	if s, ok := in.(*store); ok {
		secrets, err := i.secrets()
		if err != nil {
			s.log.Error("the new secrets cannot be read, the old ones stay", zap.Error(err))
			secrets = nil
		}
		s.apply(i.settings(), secrets)
	}
	in.SetPolicy(p)
}

// Interface guards
var (
	_ caddy.Provisioner        = (*Inbox)(nil)
	_ caddy.Validator          = (*Inbox)(nil)
	_ caddymodule.Inbox        = (*Inbox)(nil)
	_ caddymodule.LenientInbox = (*Inbox)(nil)
)
