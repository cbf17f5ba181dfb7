package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// handlerConfig is the part of a handler's config that a migration uses, in the form that
// Caddy's ctx.LoadModule takes.
type handlerConfig struct {
	Name       string          `json:"name"`
	InboxRaw   json.RawMessage `json:"inbox" caddy:"namespace=http.fotor_webhook.inbox inline_key=module"`
	Quarantine *int            `json:"quarantine"`
}

// migration moves one inbox into another.
type migration struct {
	migrated
	session *session
	config  handlerConfig
	modules caddy.Context
	cleanUp context.CancelFunc
	old     caddymodule.Inbox
	module  caddymodule.Inbox
	log     *zap.Logger

	source, target inbox.Inbox
	importer       inbox.Importer
	destinations   []string // of the source
}

// forEver is a Policy.Keep that keeps every event during the migration.
const forEver = 100 * 365 * 24 * time.Hour

// newMigration reads the config and loads both modules. It opens nothing.
func (s *session) newMigration(ctx context.Context, cmd *cobra.Command, from string) (*migration, error) {
	from, err := filepath.Abs(from)
	if err != nil {
		return nil, fmt.Errorf("--from: %w", err)
	}
	config, err := configuredHandler(cmd)
	if err != nil {
		return nil, err
	}
	m := &migration{session: s, config: config, log: s.warnings()}
	m.From, m.Handler = from, config.Name
	m.modules, m.cleanUp = caddy.NewContext(caddy.Context{Context: ctx})
	if err := m.loadModules(); err != nil {
		m.cleanUp()
		return nil, err
	}
	return m, nil
}

func (m *migration) loadModules() (err error) {
	if m.module, m.Inbox, err = m.load(&m.config); err != nil {
		return fmt.Errorf("the inbox of handler %s: %w", m.Handler, err)
	}
	// without a limit, since an inbox that is nearly full deletes delivered events
	file, err := json.Marshal(map[string]any{"module": "sqlite", "path": m.From, "max_size": int64(math.MaxInt64 / 4)})
	if err == nil {
		m.old, _, err = m.load(&handlerConfig{InboxRaw: file})
	}
	if err != nil {
		return fmt.Errorf("the inbox of %s: %w", m.From, err)
	}
	if m.old.Key(m.Handler) == m.module.Key(m.Handler) {
		return fmt.Errorf("%s is what handler %s of the config stores in: expected a config with the inbox to move to", m.From, m.Handler)
	}
	return nil
}

func (m *migration) load(c *handlerConfig) (caddymodule.Inbox, string, error) {
	loaded, err := m.modules.LoadModule(c, "InboxRaw")
	if err != nil {
		return nil, "", err
	}
	module, ok := loaded.(caddymodule.Inbox)
	if !ok {
		return nil, "", fmt.Errorf("module %T is no inbox", loaded)
	}
	return module, loaded.(caddy.Module).CaddyModule().ID.Name(), nil
}

// configuredHandler reads the config, and returns the handler that --handler names, or the
// only one.
func configuredHandler(cmd *cobra.Command) (handlerConfig, error) {
	flags := cmd.Flags()
	file, _ := flags.GetString(flagConfig)
	adapter, _ := flags.GetString(flagAdapter)
	name, _ := flags.GetString(flagHandler)
	if err := checkName(name); err != nil {
		return handlerConfig{}, fmt.Errorf("--handler: %w", err)
	}
	document, used, _, err := caddycmd.LoadConfig(file, adapter)
	if err != nil {
		return handlerConfig{}, err
	}
	if len(document) == 0 {
		return handlerConfig{}, errors.New("there is no config here: expected --config with the file that has the new inbox")
	}
	handlers, err := handlersOf(document)
	if err != nil {
		return handlerConfig{}, fmt.Errorf("reading %s: %w", used, err)
	}
	var names []string
	for _, h := range handlers {
		if h.Name == name || (name == "" && len(handlers) == 1) {
			return h, nil
		}
		names = append(names, quoted(h.Name))
	}
	switch {
	case name == "" && len(names) > 0:
		return handlerConfig{}, fmt.Errorf("several handlers are in %s, choose one with --handler: %s", used, strings.Join(names, ", "))
	case name == "":
		return handlerConfig{}, &exitError{exitNotFound, fmt.Errorf("no fotor_webhook handler is in %s", used)}
	default:
		return handlerConfig{}, &exitError{exitNotFound, fmt.Errorf("no handler %s is in %s: it has %s", name, used, strings.Join(names, ", "))}
	}
}

// handlersOf finds the handlers of a config, anywhere in its routes.
func handlersOf(document []byte) ([]handlerConfig, error) {
	var config any
	if err := json.Unmarshal(document, &config); err != nil {
		return nil, err
	}
	var found []handlerConfig
	var look func(value any) error
	look = func(value any) error {
		var members []any
		switch value := value.(type) {
		case []any:
			members = value
		case map[string]any:
			if value["handler"] == "fotor_webhook" {
				h, err := decodeHandler(value)
				found = append(found, h)
				return err
			}
			for _, name := range sortedKeys(value) {
				members = append(members, value[name])
			}
		}
		for _, member := range members {
			if err := look(member); err != nil {
				return err
			}
		}
		return nil
	}
	return found, look(config)
}

func decodeHandler(value map[string]any) (h handlerConfig, err error) {
	raw, err := json.Marshal(value)
	if err == nil {
		err = json.Unmarshal(raw, &h)
	}
	if h.Name == "" {
		h.Name = inbox.DefaultName
	}
	if len(h.InboxRaw) == 0 {
		h.InboxRaw = json.RawMessage(`{"module":"sqlite"}`)
	}
	return h, err
}

// openSource opens the old file, which must exist, such that no event is deleted from it.
func (m *migration) openSource(ctx context.Context) error {
	info, err := os.Stat(m.From)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return &exitError{exitNotFound, fmt.Errorf("there is no file %s", m.From)}
	case err != nil:
		return err
	case !info.Mode().IsRegular() || info.Size() == 0: // an empty one would become an inbox
		return fmt.Errorf("%s is no SQLite file", m.From)
	}
	m.source, err = m.old.Open(ctx, m.Handler, inbox.Policy{Keep: forEver, Quarantine: math.MaxInt32, Tasks: math.MaxInt32}, m.log)
	if errors.Is(err, inbox.ErrInUse) {
		err = fmt.Errorf("%w: reload Caddy with the new inbox, or stop it, before the migration", err)
	}
	return err
}

// openTarget opens the new inbox.
func (m *migration) openTarget(ctx context.Context) (err error) {
	policy := inbox.Policy{Keep: forEver, Quarantine: m.quarantine(), Tasks: math.MaxInt32}
	m.target, err = m.module.Open(ctx, m.Handler, policy, m.log)
	if err != nil {
		return fmt.Errorf("opening the new inbox: %w", err)
	}
	var ok bool
	if m.importer, ok = m.target.(inbox.Importer); !ok {
		return errors.Join(fmt.Errorf("the inbox %s cannot take over what became of events: expected another in the config, such as nats", m.Inbox), m.target.Close())
	}
	return nil
}

// warnings returns a logger for the inboxes' warnings and errors.
func (s *session) warnings() *zap.Logger {
	encoder := zapcore.NewConsoleEncoder(zapcore.EncoderConfig{MessageKey: "msg", LevelKey: "level", EncodeLevel: zapcore.LowercaseLevelEncoder})
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(s.stderr)), zapcore.WarnLevel))
}
