// Package natstest runs real NATS servers with JetStream for tests and for the
// benchmark: one or a cluster, in this process or in separate ones. They can be
// killed, restarted, frozen, and cut off from the network.
//
// Read natstest.go first. node.go starts a server, in this process or by
// process.go in another one. relay.go interrupts its connections. monitor.go
// asks the servers for their state.
package natstest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// patience bounds the wait for a cluster, to elect a leader for example. The
// race detector on a busy machine makes that slow.
const patience = time.Minute

// Config configures a Cluster.
type Config struct {
	// Nodes is the number of servers: 1, or the size of a cluster.
	Nodes int

	// Dir is the directory of their data and logs. New uses a temporary one by
	// default.
	Dir string

	// Separate runs each server in a process of its own, so that Kill is a kill
	// -9. That process runs this program again, see init.
	Separate bool

	// Cuttable routes every connection through a relay, so that Cut can
	// interrupt it. That costs some speed.
	Cuttable bool

	// MaxPayload is the servers' max_payload in bytes; 0 is their default, 1 MiB.
	MaxPayload int32
}

// Cluster is a set of servers. One goroutine at a time may change it.
type Cluster struct {
	conf    Config
	nodes   []*node
	running sync.WaitGroup // the relays' goroutines
}

// New starts servers for a test, waits until they can store, and stops them
// when the test ends. If the test failed, the state of their streams and the
// end of their logs are shown.
func New(t testing.TB, conf Config) *Cluster {
	t.Helper()
	if conf.Dir == "" {
		conf.Dir = t.TempDir()
	}
	c, err := Start(t.Context(), conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			c.describe(context.WithoutCancel(t.Context()), t.Logf)
		}
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
		for _, n := range c.nodes {
			if t.Failed() {
				t.Logf("NATS server %s logged:\n%s", n.settings.Name, n.settings.logged())
			}
		}
	})
	return c
}

// Start starts servers and waits until they can store.
func Start(ctx context.Context, conf Config) (_ *Cluster, err error) {
	if conf.Nodes < 1 || conf.Nodes == 2 {
		return nil, fmt.Errorf("a cluster of %d NATS servers: expected 1, or 3 or more", conf.Nodes)
	}
	c := &Cluster{conf: conf}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Stop())
		}
	}()
	if err := c.addNodes(ctx); err != nil {
		return nil, err
	}
	for _, n := range c.nodes {
		if err := n.start(ctx, conf.Separate); err != nil {
			return nil, err
		}
	}
	return c, c.AwaitHealthy(ctx)
}

// addNodes adds the nodes, with their addresses and their routes to each other.
func (c *Cluster) addNodes(ctx context.Context) error {
	ports, err := FreePorts(ctx, 3*c.conf.Nodes)
	if err != nil {
		return err
	}
	for i := range c.conf.Nodes {
		name := fmt.Sprint("n", i)
		n := &node{settings: settings{
			Name: name, Dir: filepath.Join(c.conf.Dir, name), MaxPayload: c.conf.MaxPayload,
			Port: ports[3*i], RoutePort: ports[3*i+1], MonitorPort: ports[3*i+2],
		}}
		c.nodes = append(c.nodes, n)
		if n.address, err = c.addressOf(ctx, local(n.settings.Port), n); err != nil {
			return err
		}
		n.settings.Advertise = n.address
	}
	for _, from := range c.nodes {
		for _, to := range c.nodes {
			if from == to {
				continue
			}
			address, err := c.addressOf(ctx, local(to.settings.RoutePort), from, to)
			if err != nil {
				return err
			}
			from.settings.Routes = append(from.settings.Routes, "nats-route://"+address)
		}
	}
	return nil
}

// addressOf returns the address at which a server is reached: its own, or that
// of a relay that halts while one of its ends is cut off.
func (c *Cluster) addressOf(ctx context.Context, to string, ends ...*node) (string, error) {
	if !c.conf.Cuttable {
		return to, nil
	}
	r, err := newRelay(ctx, to, &c.running)
	if err != nil {
		return "", err
	}
	for _, n := range ends {
		n.relays = append(n.relays, r)
	}
	return r.address, nil
}

// URLs returns the URLs for clients, in the order of the servers.
func (c *Cluster) URLs() []string {
	urls := make([]string, len(c.nodes))
	for i, n := range c.nodes {
		urls[i] = "nats://" + n.address
	}
	return urls
}

// Kill ends a server abruptly. A server in this process can only be shut down
// properly; if it is cuttable, it is cut off meanwhile, so that nobody notices.
func (c *Cluster) Kill(i int) error {
	n := c.nodes[i]
	if n.running == nil {
		return fmt.Errorf("NATS server %s does not run", n.settings.Name)
	}
	if !c.conf.Separate {
		n.setHalted(true)
		defer n.setHalted(false)
	}
	err := n.running.kill()
	n.running = nil
	n.closeConns()
	return err
}

// Restart starts a killed server again, with its data and addresses. It may
// take a while to catch up with the others, see AwaitHealthy.
func (c *Cluster) Restart(ctx context.Context, i int) error {
	n := c.nodes[i]
	if n.running != nil {
		return fmt.Errorf("NATS server %s runs", n.settings.Name)
	}
	return n.start(ctx, c.conf.Separate)
}

// Cut interrupts the traffic of a server with the others and with all clients.
// As with a pulled cable, connections stay open and bring nothing.
func (c *Cluster) Cut(i int) {
	c.nodes[i].cut = true
	c.nodes[i].setHalted(true)
}

// Mend resumes the traffic of a server, including what was held up.
func (c *Cluster) Mend(i int) {
	c.nodes[i].setHalted(false)
	c.nodes[i].cut = false
}

// Stop stops all servers. It may be called again.
func (c *Cluster) Stop() error {
	var errs []error
	for _, n := range c.nodes {
		for _, r := range n.relays {
			r.close()
		}
	}
	for _, n := range c.nodes {
		if n.running != nil {
			errs = append(errs, n.running.stop())
			n.running = nil
		}
	}
	c.running.Wait()
	return errors.Join(errs...)
}
