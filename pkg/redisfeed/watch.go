package redisfeed

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/countersign/countersign/pkg/record"
)

const (
	// pingInterval is how long a subscription may be silent before it is pinged.
	pingInterval = time.Second
	// silenceLimit is how long a subscription may be silent before it is closed.
	silenceLimit = 3 * time.Second
	// subscribeTimeout bounds each step of subscribing.
	subscribeTimeout = time.Second
)

var (
	errSilent        = errors.New("the subscription was silent for too long")
	errOtherMaster   = errors.New("the server is not the master")
	errConnectedOnce = errors.New("the connection of the subscription was lost")
)

// Watch implements replica.Source.
func (f *Feed) Watch(ctx context.Context, hint func(partition int, raw []byte)) error {
	channels := make([]string, len(f.keys))
	for i, keys := range f.keys {
		channels[i] = keys.Hint
	}
	return f.client.Listen(ctx, channels, func(channel, payload string) {
		if partition, err := record.PartitionOfHint(channel); err == nil {
			hint(partition, []byte(payload))
		}
	})
}

// Listen calls each for every message on some channels, until ctx ends or the connection is silent for too
// long. It returns why it ended. It uses classic Pub/Sub over one connection to one master. Sharded
// subscriptions die silently when a slot moves, and the nodes of a cluster forward classic messages to each
// other.
func (c *Client) Listen(ctx context.Context, channels []string, each func(channel, payload string)) error {
	lastHeard := time.Now() // the time to connect counts as silence
	l, err := c.topology.layout(ctx)
	if err != nil {
		return err
	}
	address := l.masters[rand.IntN(len(l.masters))]
	client := redis.NewClient(connectOnce(c.target.server, address))
	defer client.Close()
	// By name, not by pattern: an account with &cs:* may subscribe to the names that match, but to no pattern
	// other than that one (Redis ACL, Pub/Sub permissions).
	subscription := client.Subscribe(ctx, channels...)
	defer subscription.Close()
	// A receive checks its context only between frames.
	defer context.AfterFunc(ctx, func() { _ = subscription.Close() })()
	defer context.AfterFunc(c.topology.ctx, func() { _ = subscription.Close() })()
	err = c.receive(ctx, subscription, address, lastHeard, each)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	c.topology.learn(address, err)
	return err
}

// receive passes messages on until an error or silence ends the subscription.
func (c *Client) receive(ctx context.Context, from *redis.PubSub, address string, lastHeard time.Time,
	each func(channel, payload string),
) error {
	looked := time.Now()
	for {
		frame, err := from.ReceiveTimeout(ctx, pingInterval)
		now := time.Now()
		switch {
		case isTimeout(err) && now.Sub(lastHeard) > silenceLimit:
			return errSilent
		case isTimeout(err):
			if err := from.Ping(ctx); err != nil {
				return err
			}
		case err != nil:
			return err
		default:
			lastHeard = now
		}
		if message, ok := frame.(*redis.Message); ok {
			each(message.Channel, message.Payload)
		}
		if now.Sub(looked) > pingInterval {
			looked = now
			if l, err := c.topology.layout(ctx); err == nil && !l.isMaster(address) {
				return errOtherMaster
			}
		}
	}
}

// connectOnce returns options for a client that connects once. go-redis would reconnect silently, and nobody
// would know about the messages that were missed meanwhile.
func connectOnce(server redis.Options, address string) *redis.Options {
	o := at(server, address)
	o.ReadTimeout, o.WriteTimeout = subscribeTimeout, subscribeTimeout
	dial := redis.NewDialer(o)
	var used atomic.Bool
	o.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
		if used.Swap(true) {
			return nil, errConnectedOnce
		}
		return dial(ctx, network, address)
	}
	return o
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}
