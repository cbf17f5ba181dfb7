package sqlite

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

func TestUnmarshalCaddyfile(t *testing.T) {
	for _, c := range []struct{ name, in, want, err string }{
		{name: "nothing", in: "sqlite", want: `{}`},
		{name: "an empty block", in: "sqlite {\n}", want: `{}`},
		{name: "a path", in: "sqlite /data/a.db", want: `{"path":"/data/a.db"}`},
		{name: "a placeholder", in: "sqlite {env.DIR}/a.db", want: `{"path":"{env.DIR}/a.db"}`},
		{name: "all", in: "sqlite a.db {\n max_size 2GiB\n}", want: `{"path":"a.db","max_size":2147483648}`},
		{name: "two paths", in: "sqlite a b", err: "inbox sqlite: unexpected argument 'b': expected at most one, the path of a file"},
		{name: "no path", in: `sqlite ""`, err: "inbox sqlite: bad value '' for the path: expected the path of a file"},
		{name: "an unknown option", in: "sqlite {\n maxsize 1\n}", err: "inbox sqlite: unknown option 'maxsize': expected max_size"},
		{name: "twice", in: "sqlite {\n max_size 2MB\n max_size 2MB\n}", err: "inbox sqlite: max_size is given more than once: expected one"},
		{name: "no size", in: "sqlite {\n max_size\n}", err: "inbox sqlite: max_size has 0 arguments: expected one size, such as 500MB or 10GiB"},
		{name: "two sizes", in: "sqlite {\n max_size 1 2\n}", err: "inbox sqlite: max_size has 2 arguments: expected one size, such as 500MB or 10GiB"},
		{name: "no number", in: "sqlite {\n max_size big\n}", err: "inbox sqlite: bad value 'big' for max_size: expected one size, such as 500MB or 10GiB"},
		{name: "zero", in: "sqlite {\n max_size 0\n}", err: "inbox sqlite: bad value '0' for max_size: expected one size, such as 500MB or 10GiB"},
		{name: "too large", in: "sqlite {\n max_size 16EB\n}", err: "inbox sqlite: bad value '16EB' for max_size: expected one size, such as 500MB or 10GiB"},
		{name: "a block", in: "sqlite {\n max_size 1MB {\n x\n }\n}", err: "inbox sqlite: max_size has a block: expected one size, such as 500MB or 10GiB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			i := new(Inbox)
			err := i.UnmarshalCaddyfile(caddyfile.NewTestDispenser(c.in))
			if c.err != "" {
				require.ErrorContains(t, err, c.err)
				return
			}
			require.NoError(t, err)
			got, err := json.Marshal(i)
			require.NoError(t, err)
			require.JSONEq(t, c.want, string(got))
		})
	}
}

// provision does what Caddy does before it uses a module.
func provision(i *Inbox) error {
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	if err := i.Provision(ctx); err != nil {
		return err
	}
	return i.Validate()
}

func TestProvisionSetsDefaults(t *testing.T) {
	i := new(Inbox)
	require.NoError(t, provision(i))
	require.EqualValues(t, 10<<30, i.MaxSize)
	require.Equal(t, "sqlite:"+resolve(filepath.Join(caddy.AppDataDir(), "fotor_webhook", "orders.db")), i.Key("orders"))
}

func TestProvisionResolvesPlaceholders(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("INBOX_DIR", dir)
	name := filepath.Join(dir, "name")
	require.NoError(t, os.WriteFile(name, []byte("from-file"), 0o600))
	i := &Inbox{Path: "{env.INBOX_DIR}/{file." + name + "}.db"}
	require.NoError(t, provision(i))
	require.Equal(t, "sqlite:"+resolve(filepath.Join(dir, "from-file.db")), i.Key("x"))
	for _, path := range []string{"{env.NOT_SET_AT_ALL}", "{nothing.such}/a.db", "{file./does/not/exist}"} {
		require.ErrorContains(t, provision(&Inbox{Path: path}), "inbox sqlite: path", path)
	}
}

func TestValidateRefusesASmallLimit(t *testing.T) {
	require.ErrorContains(t, provision(&Inbox{MaxSize: 1<<20 - 1}), "max_size is 1048575 bytes; it must be at least 1.0 MiB")
	require.ErrorContains(t, provision(&Inbox{MaxSize: -1}), "max_size is -1 bytes")
	require.NoError(t, provision(&Inbox{MaxSize: 1 << 20}))
}

func TestKeyIsTheSameHoweverThePathIsWritten(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	require.NoError(t, os.Mkdir(target, 0o700))
	require.NoError(t, os.Symlink(target, filepath.Join(dir, "link")))
	paths := []string{
		filepath.Join(dir, "target", "new", "a.db"),
		filepath.Join(dir, "link", "new", "a.db"),
		dir + "//link/./x/../new/a.db",
	}
	want := (&Inbox{Path: paths[0]}).Key("")
	for range 2 { // before and after the directory is there
		for _, path := range paths {
			require.Equal(t, want, (&Inbox{Path: path}).Key(""), path)
		}
		require.NoError(t, os.MkdirAll(filepath.Join(target, "new"), 0o700))
	}
	t.Chdir(target)
	require.Equal(t, want, (&Inbox{Path: "new/a.db", MaxSize: 5}).Key("other"))
}

func TestOpenAndApply(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new dir", "100% ?#a.db")
	i := &Inbox{Path: path}
	require.NoError(t, provision(i))
	in, err := i.Open(context.Background(), "x", inbox.Policy{Keep: time.Hour}, zap.NewNop())
	require.NoError(t, err)
	defer in.Close()
	for name, mode := range map[string]os.FileMode{path: 0o600, path + "-wal": 0o600, path + ".lock": 0o600, filepath.Dir(path): 0o700} {
		info, err := os.Stat(name)
		require.NoError(t, err)
		require.Equal(t, mode, info.Mode().Perm(), name)
	}
	(&Inbox{MaxSize: 3 << 20}).Apply(in, inbox.Policy{Quarantine: 5})
	stats, err := in.Stats(context.Background())
	require.NoError(t, err)
	require.EqualValues(t, 3<<20, stats.MaxBytes)
	require.NoError(t, in.Quarantine(context.Background(), &inbox.Suspect{Status: 400}))
	stats, err = in.Stats(context.Background())
	require.NoError(t, err)
	require.EqualValues(t, 1, stats.Quarantined)
}

func TestModuleIsRegistered(t *testing.T) {
	info, err := caddy.GetModule("http.fotor_webhook.inbox.sqlite")
	require.NoError(t, err)
	require.Implements(t, (*caddymodule.Inbox)(nil), info.New())
}
