package natstest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// settings are the settings of one server.
type settings struct {
	Name                         string
	Dir                          string
	Port, RoutePort, MonitorPort int
	Advertise                    string   // where clients reach it
	Routes                       []string // where it reaches the others
	MaxPayload                   int32
}

// node is one server, running or not.
type node struct {
	settings settings
	address  string   // for clients
	relays   []*relay // all that lead to it or away from it
	cut      bool
	running  instance // nil while it is killed
}

// instance is a running server.
type instance interface {
	// stop ends it in good order, kill at once.
	stop() error
	kill() error
}

func (n *node) start(ctx context.Context, separate bool) (err error) {
	if err := os.MkdirAll(n.settings.Dir, 0o700); err != nil {
		return err
	}
	if separate {
		n.running, err = startProcess(ctx, n.settings)
	} else {
		n.running, err = startInside(n.settings)
	}
	return err
}

func (n *node) halt(still bool) {
	for _, r := range n.relays {
		r.halt(still)
	}
}

func (n *node) hangUp() {
	for _, r := range n.relays {
		r.hangUp()
	}
}

// logged returns the end of what the server logged.
func (s settings) logged() string {
	const most = 6 << 10
	text, err := os.ReadFile(s.log())
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-most):])
}

func (s settings) log() string { return filepath.Join(s.Dir, "log") }

// options returns the settings in the server's own form.
func (s settings) options() (*server.Options, error) {
	o := &server.Options{
		ServerName: s.Name,
		Host:       "127.0.0.1", Port: s.Port,
		ClientAdvertise: s.Advertise,
		HTTPHost:        "127.0.0.1", HTTPPort: s.MonitorPort,
		MaxPayload:         s.MaxPayload,
		JetStream:          true,
		StoreDir:           s.Dir,
		JetStreamMaxMemory: 64 << 20,
		JetStreamMaxStore:  1 << 40, // what streams may reserve; tests bound what they use
		LogFile:            s.log(),
		NoSigs:             true,
	}
	if len(s.Routes) == 0 {
		return o, nil
	}
	o.Cluster = server.ClusterOpts{
		Name: "natstest", Host: "127.0.0.1", Port: s.RoutePort,
		// All routes are configured. An address that the others learn would bypass
		// the relays, so this one leads nowhere.
		Advertise: "127.0.0.1:9",
	}
	for _, route := range s.Routes {
		u, err := url.Parse(route)
		if err != nil {
			return nil, err
		}
		o.Routes = append(o.Routes, u)
	}
	return o, nil
}

// run starts a server in this process and waits until it takes connections.
func (s settings) run() (*server.Server, error) {
	options, err := s.options()
	if err != nil {
		return nil, err
	}
	running, err := server.NewServer(options)
	if err != nil {
		return nil, err
	}
	running.ConfigureLogger()
	running.Start()
	if !running.ReadyForConnections(patience) {
		running.Shutdown()
		return nil, fmt.Errorf("NATS server %s does not get ready", s.Name)
	}
	return running, nil
}

// inside is a server in this process.
type inside struct{ *server.Server }

func startInside(s settings) (instance, error) {
	running, err := s.run()
	if err != nil {
		return nil, err
	}
	return inside{running}, nil
}

func (i inside) stop() error {
	i.Shutdown()
	i.WaitForShutdown()
	return nil
}

func (i inside) kill() error { return i.stop() }

// freePorts returns ports on which nothing listens, below those that systems give to
// outgoing connections: a restarted server needs its own again.
func freePorts(ctx context.Context, count int) ([]int, error) {
	const lowest, highest = 15000, 32000
	var ports []int
	for deadline := time.Now().Add(patience); len(ports) < count; {
		if time.Now().After(deadline) {
			return nil, errors.New("no free ports")
		}
		port := lowest + rand.IntN(highest-lowest)
		if slices.Contains(ports, port) {
			continue
		}
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", local(port))
		if err != nil {
			continue // taken
		}
		if err := listener.Close(); err != nil {
			return nil, err
		}
		ports = append(ports, port)
	}
	return ports, nil
}

func local(port int) string { return fmt.Sprint("127.0.0.1:", port) }

// encode and decode pass settings to a process.
func (s settings) encode() (string, error) {
	text, err := json.Marshal(s)
	return string(text), err
}

func decode(text string) (s settings, err error) {
	return s, json.Unmarshal([]byte(text), &s)
}
