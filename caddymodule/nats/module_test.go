package nats

import (
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule"
	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/moduletest"
)

func TestUnmarshalCaddyfile(t *testing.T) {
	moduletest.UnmarshalCaddyfile(t, func() caddyfile.Unmarshaler { return new(Inbox) }, []moduletest.Case{
		{Name: "a server", In: "nats nats://a:4222", Want: `{"urls":["nats://a:4222"]}`},
		{Name: "an empty block", In: "nats nats://a nats://b {\n}", Want: `{"urls":["nats://a","nats://b"]}`},
		{Name: "all", In: `nats tls://a {
			stream ORDERS
			replicas 1
			max_size 2GiB
			user gateway {env.PASSWORD}
			tls {
				ca ca.pem
				cert c.pem
				key k.pem
			}
			lease 10s
			publish_timeout 2s
			start_without_server
		}`, Want: `{"urls":["tls://a"],"stream":"ORDERS","replicas":1,"max_size":2147483648,"user":"gateway","password":"{env.PASSWORD}",
			"tls":{"ca":"ca.pem","cert":"c.pem","key":"k.pem"},"lease":10000000000,"publish_timeout":2000000000,"start_without_server":true}`},
		{Name: "files", In: "nats nats://a {\n credentials a.creds\n nkey b.nk\n}", Want: `{"urls":["nats://a"],"credentials":"a.creds","nkey":"b.nk"}`},
		{Name: "no server", In: "nats", Err: "inbox nats: no server is given: expected at least one URL, such as nats://nats.internal:4222"},
		{Name: "an unknown option", In: "nats nats://a {\n stram X\n}", Err: "inbox nats: unknown option 'stram': expected stream, replicas, max_size, credentials, nkey, user, tls, lease, publish_timeout or start_without_server"},
		{Name: "twice", In: "nats nats://a {\n lease 1s\n lease 1s\n}", Err: "inbox nats: lease is given more than once: expected one"},
		{Name: "no number", In: "nats nats://a {\n replicas many\n}", Err: "inbox nats: bad value 'many' for replicas: expected one number, 1 to 5"},
		{Name: "too many replicas", In: "nats nats://a {\n replicas 6\n}", Err: "inbox nats: bad value '6' for replicas: expected one number, 1 to 5"},
		{Name: "no size", In: "nats nats://a {\n max_size\n}", Err: "inbox nats: max_size has 0 arguments: expected one size, such as 500MB or 10GiB"},
		{Name: "a size that is none", In: "nats nats://a {\n max_size 0\n}", Err: "inbox nats: bad value '0' for max_size: expected one size, such as 500MB or 10GiB"},
		{Name: "no password", In: "nats nats://a {\n user x\n}", Err: "inbox nats: user has 1 arguments: expected a name and a password"},
		{Name: "a block", In: "nats nats://a {\n stream X {\n y\n }\n}", Err: "inbox nats: stream has a block: expected one name"},
		{Name: "an argument of a switch", In: "nats nats://a {\n start_without_server yes\n}", Err: "inbox nats: start_without_server has 1 arguments: expected none"},
		{Name: "an unknown option of tls", In: "nats nats://a {\n tls {\n crt x\n }\n}", Err: "inbox nats: unknown option 'crt' of tls: expected ca, cert or key"},
		{Name: "an option of tls twice", In: "nats nats://a {\n tls {\n ca x\n ca x\n }\n}", Err: "inbox nats: ca of tls is given more than once: expected one"},
		{Name: "arguments of tls", In: "nats nats://a {\n tls on\n}", Err: "inbox nats: tls has 1 arguments: expected none but a block"},
		{Name: "no duration", In: "nats nats://a {\n publish_timeout soon\n}", Err: "inbox nats: bad value 'soon' for publish_timeout: expected one duration, such as 5s"},
	})
}

func TestProvisionSetsDefaults(t *testing.T) {
	i := &Inbox{URLs: []string{"nats://b", "tls://A:5222/"}}
	require.NoError(t, moduletest.Provision(i))
	require.Equal(t, &Inbox{
		URLs: []string{"nats://b:4222", "tls://a:5222"}, Stream: "FOTOR_WEBHOOK", Replicas: 3, MaxSize: 10 << 30,
		Lease: caddy.Duration(30 * time.Second), PublishTimeout: caddy.Duration(10 * time.Second),
	}, i)
}

func TestKeyNamesTheStorageAndNothingElse(t *testing.T) {
	a := &Inbox{URLs: []string{"nats://b", "nats://a"}, User: "u", Password: "secret", Replicas: 1}
	b := &Inbox{URLs: []string{"nats://a:4222", "nats://B:4222"}, Lease: caddy.Duration(time.Minute)}
	require.NoError(t, moduletest.Provision(a))
	require.NoError(t, moduletest.Provision(b))
	require.Equal(t, "nats:nats://a:4222,nats://b:4222/FOTOR_WEBHOOK", a.Key("x"))
	require.Equal(t, a.Key("x"), b.Key("y"))
}

func TestPlaceholdersAreResolved(t *testing.T) {
	t.Setenv("NATS_HOST", "nats.test")
	t.Setenv("NATS_PASSWORD", "hidden")
	i := &Inbox{URLs: []string{"nats://{env.NATS_HOST}:1"}, User: "u", Password: "{env.NATS_PASSWORD}"}
	require.NoError(t, moduletest.Provision(i))
	require.Equal(t, "nats:nats://nats.test:1/FOTOR_WEBHOOK", i.Key(""))
	require.Equal(t, "{env.NATS_PASSWORD}", i.Password)
	secrets, err := i.secrets()
	require.NoError(t, err)
	require.Equal(t, "hidden", secrets.password)
	require.ErrorContains(t, moduletest.Provision(&Inbox{URLs: []string{"nats://{env.NOT_SET_AT_ALL}"}}), "inbox nats: url 1 of 1")
}

func TestValidateRefusesWhatCannotWork(t *testing.T) {
	for _, c := range []struct {
		change func(*Inbox)
		err    string
	}{
		{func(i *Inbox) { i.URLs = nil }, "inbox nats: no server is given"},
		{func(i *Inbox) { i.URLs = []string{"http://a"} }, "url 1 of 1: bad value; expected nats://host:port or tls://host:port"},
		{func(i *Inbox) { i.URLs = []string{"nats://u:hidden@a"} }, "url 1 of 1: it has a user in it"},
		{func(i *Inbox) { i.URLs = []string{"nats://a/b"} }, "it has more than a host and a port"},
		{func(i *Inbox) { i.Stream = "a.b" }, `stream is "a.b"; it must be 1 to 64 of A-Z`},
		{func(i *Inbox) { i.Replicas = 6 }, "replicas is 6; it must be 1 to 5"},
		{func(i *Inbox) { i.MaxSize = 5 }, "max_size is 5 bytes; it must be at least 1.0 MiB"},
		{func(i *Inbox) { i.Lease = caddy.Duration(time.Millisecond) }, "lease is 1ms; it must be 1s to 10m0s"},
		{func(i *Inbox) { i.PublishTimeout = caddy.Duration(time.Hour) }, "publish_timeout is 1h0m0s; it must be 100ms to 10s"},
		{func(i *Inbox) { i.User, i.NKey, i.Credentials = "u", "n", "c" }, "credentials and nkey and user are given; they exclude each other"},
		{func(i *Inbox) { i.Password = "hidden" }, "password is given without user"},
		{func(i *Inbox) { i.TLS = &TLS{Cert: "c"} }, "tls has only one of cert and key"},
	} {
		i := &Inbox{URLs: []string{"nats://a"}}
		c.change(i)
		err := moduletest.Provision(i)
		require.ErrorContains(t, err, c.err)
		require.NotContains(t, err.Error(), "hidden")
	}
}

func TestModuleIsRegistered(t *testing.T) {
	info, err := caddy.GetModule("http.fotor_webhook.inbox.nats")
	require.NoError(t, err)
	require.Implements(t, (*caddymodule.Inbox)(nil), info.New())
}
