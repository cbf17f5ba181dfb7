package natstest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// pause is the time between two looks at a cluster.
const pause = 20 * time.Millisecond

// await waits until holds returns nil.
func await(ctx context.Context, what string, holds func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	last := errors.New("no look at it yet")
	for {
		err := holds(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %w", what, ctx.Err(), last)
		case <-time.After(pause):
		}
	}
}

// AwaitHealthy waits until the running servers agree on a leader, and each has
// caught up with all streams and consumers of which it has a replica.
func (c *Cluster) AwaitHealthy(ctx context.Context) error {
	return await(ctx, "NATS servers are not healthy", func(ctx context.Context) error {
		for _, n := range c.nodes {
			if n.running == nil || n.cut {
				continue
			}
			if _, err := n.ask(ctx, "/healthz"); err != nil {
				return err
			}
			if err := c.checkFormed(ctx, n); err != nil {
				return err
			}
		}
		return nil
	})
}

// checkFormed returns an error if the node does not see the whole cluster.
func (c *Cluster) checkFormed(ctx context.Context, n *node) error {
	if len(c.nodes) == 1 {
		return nil
	}
	info, err := n.jetStream(ctx, "")
	switch {
	case err != nil:
		return err
	case info.Meta == nil || info.Meta.Leader == "":
		return fmt.Errorf("%s knows no leader", n.settings.Name)
	case info.Meta.Size != len(c.nodes):
		return fmt.Errorf("%s knows %d nodes", n.settings.Name, info.Meta.Size)
	case info.Meta.Leader != n.settings.Name:
		return nil
	}
	known := map[string]bool{n.settings.Name: true}
	for _, peer := range info.Meta.Replicas {
		known[peer.Name] = peer.Current && !peer.Offline
	}
	for _, other := range c.nodes {
		if other.running != nil && !other.cut && !known[other.settings.Name] {
			return fmt.Errorf("%s, the leader, does not count on %s", n.settings.Name, other.settings.Name)
		}
	}
	return nil
}

// StreamLeader waits until one of the reachable servers leads the stream, and
// returns its number.
func (c *Cluster) StreamLeader(ctx context.Context, stream string) (leader int, err error) {
	err = await(ctx, "stream "+stream+" has no leader", func(ctx context.Context) error {
		for i, n := range c.nodes {
			if n.running == nil || n.cut {
				continue
			}
			led, err := n.leader(ctx, stream)
			if err != nil {
				return err
			}
			if led == n.settings.Name || (led != "" && len(c.nodes) == 1) {
				leader = i
				return nil
			}
		}
		return errors.New("nobody says to be it")
	})
	return leader, err
}

// describe shows the state of the streams and consumers on each server.
func (c *Cluster) describe(ctx context.Context, tell func(format string, args ...any)) {
	for _, n := range c.nodes {
		if n.running == nil || n.cut {
			continue
		}
		info, err := n.jetStream(ctx, "?accounts=true&streams=true&consumers=true")
		if err != nil {
			tell("NATS server %s: %v", n.settings.Name, err)
		}
		for _, account := range info.AccountDetails {
			for _, s := range account.Streams {
				tell("NATS server %s, stream %s: leader %q, messages %d, %d to %d",
					n.settings.Name, s.Name, leaderOf(s.Cluster), s.State.Msgs, s.State.FirstSeq, s.State.LastSeq)
				for _, consumer := range s.Consumer {
					tell("NATS server %s, stream %s, consumer %s: leader %q, delivered %d, acknowledged up to %d, %d to be acknowledged, %d handed out again, %d still to come, %d requests",
						n.settings.Name, s.Name, consumer.Name, leaderOf(consumer.Cluster), consumer.Delivered.Stream, consumer.AckFloor.Stream,
						consumer.NumAckPending, consumer.NumRedelivered, consumer.NumPending, consumer.NumWaiting)
				}
			}
		}
	}
}

// leaderOf returns the leader, or "" if there is no cluster.
func leaderOf(info *server.ClusterInfo) string {
	if info == nil {
		return ""
	}
	return info.Leader
}

// leader returns the node's view of the stream's leader.
func (n *node) leader(ctx context.Context, stream string) (string, error) {
	info, err := n.jetStream(ctx, "?accounts=true&streams=true")
	if err != nil {
		return "", err
	}
	for _, account := range info.AccountDetails {
		for _, s := range account.Streams {
			if s.Name != stream {
				continue
			}
			if s.Cluster == nil {
				return n.settings.Name, nil
			}
			return s.Cluster.Leader, nil
		}
	}
	return "", nil
}

func (n *node) jetStream(ctx context.Context, query string) (info server.JSInfo, err error) {
	text, err := n.ask(ctx, "/jsz"+query)
	if err != nil {
		return info, err
	}
	return info, json.Unmarshal(text, &info)
}

// ask returns a page of the server's monitoring, which is not behind a relay.
func (n *node) ask(ctx context.Context, path string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+local(n.settings.MonitorPort)+path, nil)
	if err != nil {
		return nil, err
	}
	r.Close = true // leave no idle connection behind
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", n.settings.Name, response.Status, text)
	}
	return text, err
}
