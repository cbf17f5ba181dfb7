package nats

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"go.uber.org/zap"
)

// secrets are the credentials of the inbox. Files are read again for each
// connection, so that they can be replaced at any time. Only the public half of
// an NKey is fixed: the client takes it once.
type secrets struct {
	credentials, nkey string // paths of files
	user, password    string
}

// secrets resolves the placeholders. Its errors name the option, not the value.
func (i *Inbox) secrets() (*secrets, error) {
	s := &secrets{credentials: i.Credentials, nkey: i.NKey, user: i.User, password: i.Password}
	for name, field := range map[string]*string{
		"credentials": &s.credentials, "nkey": &s.nkey, "user": &s.user, "password": &s.password,
	} {
		if err := resolve(name, field); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func resolve(name string, field *string) error {
	if *field == "" {
		return nil
	}
	value, err := caddy.NewReplacer().ReplaceOrErr(*field, true, true)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	*field = value
	return nil
}

// connect opens the connection. It reconnects by itself, for ever. While it is
// down nothing is buffered to be sent later.
func (s *store) connect(ctx context.Context) error {
	o := &s.options
	opts := []nats.Option{
		nats.Name("fotor_webhook " + o.name),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, 250*time.Millisecond),
		nats.ReconnectBufSize(-1),
		nats.IgnoreAuthErrorAbort(),
		// A silent server is given up after 3 to 4 s, less than callbacks wait.
		nats.PingInterval(time.Second),
		nats.MaxPingsOutstanding(3),
		// A write to a stalled connection blocks all others.
		nats.FlusherTimeout(s.publishTimeout()),
		nats.Timeout(connectTimeout(ctx, s.publishTimeout())),
		nats.RetryOnFailedConnect(o.startWithoutServer),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			s.setConnected(false)
			if !s.closed() {
				s.log.Warn("connection to NATS lost, connecting again", zap.Error(err))
			}
		}),
		nats.ReconnectHandler(func(c *nats.Conn) {
			s.setConnected(true)
			s.log.Info("connected to NATS again", zap.String("server", c.ConnectedServerName()))
		}),
		nats.ConnectHandler(func(*nats.Conn) { s.setConnected(true) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			s.log.Error("NATS reports an error", zap.Error(err))
		}),
	}
	auth, err := s.authentication()
	if err != nil {
		return err
	}
	opts = append(opts, auth...)
	if o.tls != nil {
		config, err := o.tls.config()
		if err != nil {
			return fmt.Errorf("tls: %w", err)
		}
		opts = append(opts, nats.Secure(config))
	}
	urls := strings.Join(o.urls, ",")
	s.conn, err = nats.Connect(urls, opts...)
	switch {
	case err == nil:
		if s.conn.IsConnected() {
			s.setConnected(true) // the handler does so too, but later
		}
		return nil
	case errors.Is(err, nats.ErrAuthorization):
		return fmt.Errorf("connecting to %s: %w", urls, err)
	default: // with start_without_server the client goes on trying
		return fmt.Errorf("connecting to %s: %w%s", urls, err, startHint)
	}
}

// startHint ends the error of a config that is not loaded because no server can
// be reached.
const startHint = "; a config is loaded with NATS out of reach only if the inbox has the option start_without_server"

// maxConnectTimeout bounds one attempt to connect. While the client reconnects,
// calls of its methods block.
const maxConnectTimeout = 2 * time.Second

// connectTimeout bounds one attempt to connect by the time left in ctx.
func connectTimeout(ctx context.Context, timeout time.Duration) time.Duration {
	timeout = min(timeout, maxConnectTimeout)
	if at, ok := ctx.Deadline(); ok {
		timeout = min(timeout, max(time.Until(at), 10*time.Millisecond))
	}
	return timeout
}

// authentication returns options that read the current secrets for each
// connection.
func (s *store) authentication() ([]nats.Option, error) {
	first := s.secrets.Load()
	switch {
	case first.credentials != "":
		if _, err := os.Stat(first.credentials); err != nil {
			return nil, fmt.Errorf("credentials: %w", err)
		}
		return []nats.Option{nats.UserJWT(
			func() (string, error) {
				content, err := os.ReadFile(s.secrets.Load().credentials)
				if err != nil {
					return "", err
				}
				defer clear(content)
				return nkeys.ParseDecoratedJWT(content)
			},
			func(nonce []byte) ([]byte, error) {
				return signWith(s.secrets.Load().credentials, nkeys.ParseDecoratedUserNKey, nonce)
			},
		)}, nil
	case first.nkey != "":
		public, err := publicKey(first.nkey)
		if err != nil {
			return nil, fmt.Errorf("nkey: %w", err)
		}
		return []nats.Option{nats.Nkey(public, func(nonce []byte) ([]byte, error) {
			return signWith(s.secrets.Load().nkey, nkeys.ParseDecoratedNKey, nonce)
		})}, nil
	case first.user != "":
		return []nats.Option{nats.UserInfoHandler(func() (string, string) {
			now := s.secrets.Load()
			return now.user, now.password
		})}, nil
	}
	return nil, nil
}

// keyIn reads the key in a file.
func keyIn(path string, parse func([]byte) (nkeys.KeyPair, error)) (nkeys.KeyPair, error) {
	content, err := os.ReadFile(path) //nolint:gosec // the operator's path
	if err != nil {
		return nil, err
	}
	defer clear(content)
	key, err := parse(content)
	if err != nil {
		return nil, errors.New("the file has no NKey seed in it")
	}
	return key, nil
}

func signWith(path string, parse func([]byte) (nkeys.KeyPair, error), nonce []byte) ([]byte, error) {
	key, err := keyIn(path, parse)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	return key.Sign(nonce)
}

func publicKey(path string) (string, error) {
	key, err := keyIn(path, nkeys.ParseDecoratedNKey)
	if err != nil {
		return "", err
	}
	defer key.Wipe()
	return key.PublicKey()
}

// config reads the files named by the options.
func (t *TLS) config() (*tls.Config, error) {
	files := *t
	for name, field := range map[string]*string{"ca": &files.CA, "cert": &files.Cert, "key": &files.Key} {
		if err := resolve(name, field); err != nil {
			return nil, err
		}
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if files.CA != "" {
		pem, err := os.ReadFile(files.CA)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca: %s has no certificate in PEM", files.CA)
		}
	}
	if files.Cert != "" {
		load := func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
			return &pair, err
		}
		if _, err := load(); err != nil {
			return nil, fmt.Errorf("cert: %w", err)
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return config, nil
}
