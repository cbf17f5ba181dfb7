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

// settings are the configuration of one server.
type settings struct {
	Name                         string
	Dir                          string
	Port, RoutePort, MonitorPort int
	Advertise                    string   // address for clients
	Routes                       []string // to the other servers
	MaxPayload                   int32
}

// node is one server, running or not.
type node struct {
	settings settings
	address  string   // address for clients
	relays   []*relay // all relays from and to this server
	cut      bool
	running  instance // nil while it is killed
}

// instance is a running server.
type instance interface {
	// stop shuts it down, kill ends it at once.
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
		n.running, err = startInProcess(n.settings)
	}
	return err
}

func (n *node) setHalted(still bool) {
	for _, r := range n.relays {
		r.setHalted(still)
	}
}

func (n *node) closeConns() {
	for _, r := range n.relays {
		r.closeConns()
	}
}

// logged returns the end of the server's log.
func (s settings) logged() string {
	const most = 6 << 10
	text, err := os.ReadFile(s.log())
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-most):])
}

func (s settings) log() string { return filepath.Join(s.Dir, "log") }

// options returns the server's options for these settings.
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
		JetStreamMaxStore:  1 << 40, // reserved by streams, not used; tests bound what is used
		LogFile:            s.log(),
		NoSigs:             true,
	}
	if len(s.Routes) == 0 {
		return o, nil
	}
	o.Cluster = server.ClusterOpts{
		Name: "natstest", Host: "127.0.0.1", Port: s.RoutePort,
		// Every route is configured. An advertised address would bypass the
		// relays, so this one leads nowhere.
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

// run starts a server in this process and waits until it accepts connections.
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

// inProcess is a server in this process.
type inProcess struct{ *server.Server }

func startInProcess(s settings) (instance, error) {
	running, err := s.run()
	if err != nil {
		return nil, err
	}
	return inProcess{running}, nil
}

func (i inProcess) stop() error {
	i.Shutdown()
	i.WaitForShutdown()
	return nil
}

func (i inProcess) kill() error { return i.stop() }

// FreePorts returns ports on which nothing listens. They are below the range
// for outgoing connections, because a restarted server needs the same port
// again.
func FreePorts(ctx context.Context, count int) ([]int, error) {
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

// encode and decode pass settings to another process.
func (s settings) encode() (string, error) {
	text, err := json.Marshal(s)
	return string(text), err
}

func decode(text string) (s settings, err error) {
	return s, json.Unmarshal([]byte(text), &s)
}
