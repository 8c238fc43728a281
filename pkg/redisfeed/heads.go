package redisfeed

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/countersign/countersign/pkg/replica"
)

// headsTimeout bounds one read of all heads, so that a master that does not answer does not make the other
// masters' data old.
const headsTimeout = 1500 * time.Millisecond

// groups are the partitions by master, for one layout.
type groups struct {
	layout   *layout
	byMaster map[string][]int
	homeless []int
}

// group returns the groups of the current layout.
func (f *Feed) group(ctx context.Context) (*groups, error) {
	l, err := f.client.topology.layout(ctx)
	if err != nil {
		return nil, err
	}
	if g := f.groups.Load(); g != nil && g.layout == l {
		return g, nil
	}
	g := &groups{layout: l, byMaster: map[string][]int{}}
	for partition, slot := range f.slots {
		if address, err := l.master(slot); err == nil {
			g.byMaster[address] = append(g.byMaster[address], partition)
		} else {
			g.homeless = append(g.homeless, partition)
		}
	}
	f.groups.Store(g)
	return g, nil
}

// Heads implements replica.Source. It makes one round trip to each master, to all at the same time.
func (f *Feed) Heads(ctx context.Context) ([]replica.HeadRead, error) {
	ctx, cancel := context.WithTimeout(ctx, headsTimeout)
	defer cancel()
	g, err := f.group(ctx)
	if err != nil {
		return nil, err
	}
	heads := make([]replica.HeadRead, len(f.keys))
	var done sync.WaitGroup
	for address, partitions := range g.byMaster {
		if len(g.byMaster) == 1 {
			f.headsAt(ctx, address, partitions, heads)
			break
		}
		done.Go(func() { f.headsAt(ctx, address, partitions, heads) })
	}
	done.Wait()
	for _, partition := range g.homeless {
		heads[partition].Err = errNoMaster
		f.client.topology.suspect()
	}
	for _, head := range heads {
		if head.Err == nil {
			return heads, nil
		}
	}
	return nil, heads[0].Err
}

// headsAt reads the heads of some partitions from one server.
func (f *Feed) headsAt(ctx context.Context, address string, partitions []int, heads []replica.HeadRead) {
	gets := make([]*redis.StringCmd, len(partitions))
	commands := make([]redis.Cmder, len(partitions))
	for i, partition := range partitions {
		gets[i] = redis.NewStringCmd(ctx, f.get[partition]...)
		commands[i] = gets[i]
	}
	s, err := f.client.polling.at(address)
	if err == nil {
		err = f.client.exchange(ctx, f.client.polling, s, commands...)
	}
	for i, partition := range partitions {
		if err != nil {
			heads[partition].Err = err
			continue
		}
		if _, elsewhere := redirected(gets[i].Err()); elsewhere {
			gets[i] = redis.NewStringCmd(ctx, f.get[partition]...)
			if err := f.client.chase(ctx, f.client.polling, f.slots[partition], gets[i]); err != nil {
				heads[partition].Err = err
				continue
			}
		}
		heads[partition].Raw, heads[partition].Err = headOf(gets[i])
	}
}

// headOf returns the value of a head's key. When Redis refuses to read the key, it returns an empty head,
// which never verifies.
func headOf(get *redis.StringCmd) ([]byte, error) {
	raw, err := get.Bytes()
	var answer redis.Error
	switch {
	case errors.Is(err, redis.Nil):
		return nil, nil
	case IsWrongType(err), errors.As(err, &answer) && strings.HasPrefix(answer.Error(), "NOPERM"):
		return []byte{}, nil
	}
	return raw, err
}
