package redisfeed

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// maxRedirects is how many redirections one command follows.
const maxRedirects = 3

// redirection is a cluster node's answer that a slot is on another node. ask says that the slot is still
// moving there, and that keys which this node lacks may be there already (Redis Cluster specification:
// redirection).
type redirection struct {
	slot    int
	address string
	ask     bool
}

// redirected returns the redirection that an error holds.
func redirected(err error) (r redirection, ok bool) {
	var answer redis.Error
	if !errors.As(err, &answer) {
		return r, false
	}
	var kind string
	if _, err := fmt.Sscan(answer.Error(), &kind, &r.slot, &r.address); err != nil {
		return r, false
	}
	r.ask = kind == "ASK"
	return r, r.ask || kind == "MOVED"
}

// newClusterClient returns the client of a cluster for commands that need no particular connection.
//
// As part of following redirections, go-redis would repeat a command after any network error, even one that
// may have been run. So go-redis follows no redirections here, and clusterHook does.
func newClusterClient(c *Client) *redis.ClusterClient {
	o := at(c.target.server, "")
	client := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs:        c.target.seeds,
		ClusterSlots: c.clusterSlots,
		MaxRedirects: -1,

		Protocol:                 o.Protocol,
		Username:                 o.Username,
		Password:                 o.Password,
		TLSConfig:                o.TLSConfig,
		DialTimeout:              o.DialTimeout,
		ReadTimeout:              o.ReadTimeout,
		WriteTimeout:             o.WriteTimeout,
		PoolTimeout:              o.PoolTimeout,
		ContextTimeoutEnabled:    o.ContextTimeoutEnabled,
		MaxRetries:               o.MaxRetries,
		DialerRetries:            o.DialerRetries,
		DisableIdentity:          o.DisableIdentity,
		PipelinePoolSize:         o.PipelinePoolSize,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	client.AddHook(clusterHook{c, client})
	return client
}

// clusterSlots gives go-redis the layout.
func (c *Client) clusterSlots(ctx context.Context) ([]redis.ClusterSlot, error) {
	layout, err := c.topology.layout(ctx)
	if err != nil {
		return nil, err
	}
	var told []redis.ClusterSlot
	tell := func(first, last int, master string) {
		if first <= last {
			told = append(told, redis.ClusterSlot{Start: first, End: last, Nodes: []redis.ClusterNode{{Addr: master}}})
		}
	}
	for _, r := range layout.ranges {
		first := r.first
		for slot := r.first; slot <= r.last && len(layout.moved) > 0; slot++ {
			if master, moved := layout.moved[slot]; moved {
				tell(first, slot-1, r.master)
				tell(slot, slot, master)
				first = slot + 1
			}
		}
		tell(first, r.last, r.master)
	}
	return told, nil
}

// clusterHook follows redirections, and repeats nothing else.
type clusterHook struct {
	client  *Client
	cluster *redis.ClusterClient
}

// DialHook implements redis.Hook.
func (h clusterHook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (h clusterHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return h.follow(ctx, cmd, next(ctx, cmd), next)
	}
}

// ProcessPipelineHook implements redis.Hook. Each command of a pipeline follows its own redirection, in
// order. A transaction is repeated as a whole.
func (h clusterHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	again := func(ctx context.Context, cmd redis.Cmder) error { return next(ctx, []redis.Cmder{cmd}) }
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if cmds[0].Name() == "multi" {
			for range maxRedirects {
				if r, ok := redirected(err); !ok || r.ask {
					break
				}
				h.learn(ctx, err)
				err = next(ctx, cmds)
			}
			return err
		}
		var first error
		for _, cmd := range cmds {
			if cmd.Err() != nil {
				cmd.SetErr(h.follow(ctx, cmd, cmd.Err(), again))
			}
			if first == nil {
				first = cmd.Err()
			}
		}
		if first == nil && err != nil && !answered(err) {
			return err
		}
		return first
	}
}

// follow repeats a command on the node that its error names.
func (h clusterHook) follow(ctx context.Context, cmd redis.Cmder, err error, again redis.ProcessHook) error {
	for range maxRedirects {
		r, ok := redirected(err)
		if !ok {
			break
		}
		h.learn(ctx, err)
		if r.ask {
			err = h.client.asking(ctx, r.address, cmd)
		} else {
			err = again(ctx, cmd)
		}
	}
	h.client.topology.learn("", err)
	return err
}

// learn tells both the topology and go-redis what an error says about the layout.
func (h clusterHook) learn(ctx context.Context, err error) {
	h.client.topology.learn("", err)
	_ = h.cluster.ForEachMaster(ctx, func(context.Context, *redis.Client) error { return nil })
}

// asking runs a command on the node to which its slot is moving.
func (c *Client) asking(ctx context.Context, address string, cmd redis.Cmder) error {
	s, err := c.writing.at(address)
	if err != nil {
		return err
	}
	if _, err := s.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		_ = pipe.Process(ctx, redis.NewStatusCmd(ctx, "asking"))
		return pipe.Process(ctx, cmd)
	}); err != nil {
		return err
	}
	return cmd.Err()
}
