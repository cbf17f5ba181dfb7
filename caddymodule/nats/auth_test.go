package nats

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/moduletest"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// tryOpen provisions and opens an inbox as Caddy does.
func tryOpen(t testing.TB, i *Inbox) error {
	t.Helper()
	i.Replicas, i.MaxSize = 1, 32<<20
	require.NoError(t, moduletest.Provision(i))
	in, err := i.Open(context.Background(), "x", inbox.Policy{Keep: time.Hour}, zap.NewNop())
	if err != nil {
		return err
	}
	return in.Close()
}

func TestUserAndPassword(t *testing.T) {
	t.Setenv("NATS_PASSWORD", "hidden")
	url := serve(t, func(o *server.Options) { o.Username, o.Password = "gateway", "hidden" }).ClientURL()
	url = "nats://" + url[strings.LastIndexAny(url, "@/")+1:] // it has the user in it
	require.NoError(t, tryOpen(t, &Inbox{URLs: []string{url}, User: "gateway", Password: "{env.NATS_PASSWORD}"}))
	t.Setenv("NATS_PASSWORD", "wronghidden")
	err := tryOpen(t, &Inbox{URLs: []string{url}, User: "gateway", Password: "{env.NATS_PASSWORD}"})
	require.ErrorContains(t, err, "inbox nats: connecting to "+url)
	require.NotContains(t, err.Error(), "hidden")
	require.ErrorContains(t, tryOpen(t, &Inbox{URLs: []string{url}}), "connecting")
}

func TestNKey(t *testing.T) {
	key, err := nkeys.CreateUser()
	require.NoError(t, err)
	public, err := key.PublicKey()
	require.NoError(t, err)
	seed, err := key.Seed()
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "user.nk")
	require.NoError(t, os.WriteFile(path, seed, 0o600))
	url := serve(t, func(o *server.Options) { o.Nkeys = []*server.NkeyUser{{Nkey: public}} }).ClientURL()
	require.NoError(t, tryOpen(t, &Inbox{URLs: []string{url}, NKey: path}))
	other, err := nkeys.CreateUser()
	require.NoError(t, err)
	seed, err = other.Seed()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, seed, 0o600))
	err = tryOpen(t, &Inbox{URLs: []string{url}, NKey: path})
	require.ErrorContains(t, err, "connecting to")
	require.NotContains(t, err.Error(), string(seed))
	require.NoError(t, os.WriteFile(path, []byte("no seed"), 0o600))
	require.ErrorContains(t, tryOpen(t, &Inbox{URLs: []string{url}, NKey: path}), "inbox nats: nkey: the file has no NKey seed in it")
	require.ErrorContains(t, tryOpen(t, &Inbox{URLs: []string{url}, Credentials: path + ".none"}), "inbox nats: credentials: ")
}

// A credentials file has a user's JWT and seed, as nsc writes it.
func TestCredentials(t *testing.T) {
	operator, account := pair(t, nkeys.CreateOperator), pair(t, nkeys.CreateAccount)
	system := pair(t, nkeys.CreateAccount)
	resolver := new(server.MemAccResolver)
	for key, name := range map[nkeys.KeyPair]string{account: "gateway", system: "system"} {
		claims := jwt.NewAccountClaims(public(t, key))
		claims.Name = name
		if key == account {
			claims.Limits.JetStreamLimits = jwt.JetStreamLimits{DiskStorage: -1, MemoryStorage: -1}
		}
		encoded, err := claims.Encode(operator)
		require.NoError(t, err)
		require.NoError(t, resolver.Store(public(t, key), encoded))
	}
	url := serve(t, func(o *server.Options) {
		o.TrustedKeys, o.AccountResolver, o.SystemAccount = []string{public(t, operator)}, resolver, public(t, system)
	}).ClientURL()
	path := filepath.Join(t.TempDir(), "gateway.creds")
	write := func(signer nkeys.KeyPair) (seed string) {
		user := pair(t, nkeys.CreateUser)
		token, err := jwt.NewUserClaims(public(t, user)).Encode(signer)
		require.NoError(t, err)
		secret, err := user.Seed()
		require.NoError(t, err)
		content, err := jwt.FormatUserConfig(token, secret)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, content, 0o600))
		return string(secret)
	}
	write(account)
	t.Setenv("CREDENTIALS", path)
	require.NoError(t, tryOpen(t, &Inbox{URLs: []string{url}, Credentials: "{env.CREDENTIALS}"}))
	seed := write(system) // it must not store anything
	err := tryOpen(t, &Inbox{URLs: []string{url}, Credentials: path})
	require.ErrorContains(t, err, "JetStream not enabled for account")
	require.NotContains(t, err.Error(), seed)
	stranger := pair(t, nkeys.CreateAccount)
	seed = write(stranger)
	err = tryOpen(t, &Inbox{URLs: []string{url}, Credentials: path})
	require.ErrorContains(t, err, "connecting to "+url)
	require.NotContains(t, err.Error(), seed)
}

func pair(t testing.TB, create func() (nkeys.KeyPair, error)) nkeys.KeyPair {
	t.Helper()
	key, err := create()
	require.NoError(t, err)
	return key
}

func public(t testing.TB, key nkeys.KeyPair) string {
	t.Helper()
	name, err := key.PublicKey()
	require.NoError(t, err)
	return name
}

// certificate writes a self-signed certificate and its key.
func certificate(t testing.TB, dir string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	require.NoError(t, err)
	keyDER, err := x509.MarshalECPrivateKey(private)
	require.NoError(t, err)
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), 0o600))
	return cert, key
}

func TestTLS(t *testing.T) {
	cert, key := certificate(t, t.TempDir())
	own, err := tls.LoadX509KeyPair(cert, key)
	require.NoError(t, err)
	content, err := os.ReadFile(cert)
	require.NoError(t, err)
	trusted := x509.NewCertPool()
	require.True(t, trusted.AppendCertsFromPEM(content))
	url := serve(t, func(o *server.Options) {
		o.TLS, o.TLSTimeout, o.TLSVerify = true, 5, true
		o.TLSConfig = &tls.Config{Certificates: []tls.Certificate{own}, ClientCAs: trusted, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}
	}).Addr().String()
	require.NoError(t, tryOpen(t, &Inbox{URLs: []string{"tls://" + url}, TLS: &TLS{CA: cert, Cert: cert, Key: key}}))
	require.NoError(t, tryOpen(t, &Inbox{URLs: []string{"nats://" + url}, TLS: &TLS{CA: cert, Cert: cert, Key: key}}))
	require.ErrorContains(t, tryOpen(t, &Inbox{URLs: []string{"tls://" + url}}), "certificate")
	require.Error(t, tryOpen(t, &Inbox{URLs: []string{"tls://" + url}, TLS: &TLS{CA: cert}}), "it has no certificate of its own")
	require.ErrorContains(t, tryOpen(t, &Inbox{URLs: []string{"tls://" + url}, TLS: &TLS{CA: key}}), "has no certificate in PEM")
}
