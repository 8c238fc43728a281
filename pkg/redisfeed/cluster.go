package redisfeed

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// maxRedirects is how often a command follows a slot that has moved.
const maxRedirects = 3

// redirection is the answer of a cluster's node that a slot is elsewhere; with ask, that it is about to be,
// and that keys which are not here may be there already (Redis Cluster specification: redirection).
type redirection struct {
	slot    int
	address string
	ask     bool
}

// redirected returns the redirection that an error is.
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
// go-redis would send a command again after any error of the network, as part of following redirections:
// also one that may have been run. So it is told to follow none, and clusterHook does.
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

// clusterSlots tells go-redis the layout.
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

// clusterHook follows slots that have moved, and tries nothing else again.
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

// ProcessPipelineHook implements redis.Hook. Of a pipeline each command follows for itself, in order; a
// transaction follows as a whole.
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

// follow runs a command again where its error says that its slot is.
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

// learn has both the topology and go-redis know at once what an error says.
func (h clusterHook) learn(ctx context.Context, err error) {
	h.client.topology.learn("", err)
	_ = h.cluster.ForEachMaster(ctx, func(context.Context, *redis.Client) error { return nil })
}

// asking runs a command where its slot is moving to.
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
