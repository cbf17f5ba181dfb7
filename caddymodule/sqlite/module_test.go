package sqlite

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule"
	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/moduletest"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

func TestUnmarshalCaddyfile(t *testing.T) {
	moduletest.UnmarshalCaddyfile(t, func() caddyfile.Unmarshaler { return new(Inbox) }, []moduletest.Case{
		{Name: "nothing", In: "sqlite", Want: `{}`},
		{Name: "an empty block", In: "sqlite {\n}", Want: `{}`},
		{Name: "a path", In: "sqlite /data/a.db", Want: `{"path":"/data/a.db"}`},
		{Name: "a placeholder", In: "sqlite {env.DIR}/a.db", Want: `{"path":"{env.DIR}/a.db"}`},
		{Name: "all", In: "sqlite a.db {\n max_size 2GiB\n}", Want: `{"path":"a.db","max_size":2147483648}`},
		{Name: "two paths", In: "sqlite a b", Err: "inbox sqlite: unexpected argument 'b': expected at most one, the path of a file"},
		{Name: "no path", In: `sqlite ""`, Err: "inbox sqlite: bad value '' for the path: expected the path of a file"},
		{Name: "an unknown option", In: "sqlite {\n maxsize 1\n}", Err: "inbox sqlite: unknown option 'maxsize': expected max_size"},
		{Name: "twice", In: "sqlite {\n max_size 2MB\n max_size 2MB\n}", Err: "inbox sqlite: max_size is given more than once: expected one"},
		{Name: "no size", In: "sqlite {\n max_size\n}", Err: "inbox sqlite: max_size has 0 arguments: expected one size, such as 500MB or 10GiB"},
		{Name: "two sizes", In: "sqlite {\n max_size 1 2\n}", Err: "inbox sqlite: max_size has 2 arguments: expected one size, such as 500MB or 10GiB"},
		{Name: "no number", In: "sqlite {\n max_size big\n}", Err: "inbox sqlite: bad value 'big' for max_size: expected one size, such as 500MB or 10GiB"},
		{Name: "zero", In: "sqlite {\n max_size 0\n}", Err: "inbox sqlite: bad value '0' for max_size: expected one size, such as 500MB or 10GiB"},
		{Name: "too large", In: "sqlite {\n max_size 16EB\n}", Err: "inbox sqlite: bad value '16EB' for max_size: expected one size, such as 500MB or 10GiB"},
		{Name: "a block", In: "sqlite {\n max_size 1MB {\n x\n }\n}", Err: "inbox sqlite: max_size has a block: expected one size, such as 500MB or 10GiB"},
	})
}

func TestProvisionSetsDefaults(t *testing.T) {
	i := new(Inbox)
	require.NoError(t, moduletest.Provision(i))
	require.EqualValues(t, 10<<30, i.MaxSize)
	require.Equal(t, "sqlite:"+resolve(filepath.Join(caddy.AppDataDir(), "fotor_webhook", "orders.db")), i.Key("orders"))
}

func TestProvisionResolvesPlaceholders(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("INBOX_DIR", dir)
	name := filepath.Join(dir, "name")
	require.NoError(t, os.WriteFile(name, []byte("from-file"), 0o600))
	i := &Inbox{Path: "{env.INBOX_DIR}/{file." + name + "}.db"}
	require.NoError(t, moduletest.Provision(i))
	require.Equal(t, "sqlite:"+resolve(filepath.Join(dir, "from-file.db")), i.Key("x"))
	for _, path := range []string{"{env.NOT_SET_AT_ALL}", "{nothing.such}/a.db", "{file./does/not/exist}"} {
		require.ErrorContains(t, moduletest.Provision(&Inbox{Path: path}), "inbox sqlite: path", path)
	}
}

func TestValidateRefusesASmallLimit(t *testing.T) {
	require.ErrorContains(t, moduletest.Provision(&Inbox{MaxSize: 1<<20 - 1}), "max_size is 1048575 bytes; it must be at least 1.0 MiB")
	require.ErrorContains(t, moduletest.Provision(&Inbox{MaxSize: -1}), "max_size is -1 bytes")
	require.NoError(t, moduletest.Provision(&Inbox{MaxSize: 1 << 20}))
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
	require.NoError(t, moduletest.Provision(i))
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
