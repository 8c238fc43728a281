package redisfeed

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// lateAnswers is how long to wait for the remaining answers after most servers have answered.
const lateAnswers = 100 * time.Millisecond

// ask asks all servers at once. It returns the answers that arrived within lateAnswers after most had
// answered, or an error if none arrived.
func ask[T any](ctx context.Context, p *pool, addresses []string,
	question func(context.Context, *server) (T, error),
) ([]T, error) {
	type reply struct {
		answer T
		err    error
	}
	replies := make(chan reply, len(addresses))
	for _, address := range addresses {
		p.asked.Go(func() {
			var r reply
			s, err := p.at(address)
			if err == nil {
				s.noteSent()
				r.answer, err = question(ctx, s)
				p.noteResult(s, err)
			}
			r.err = err
			replies <- r
		})
	}
	var answers []T
	var failed error
	var late <-chan time.Time
	for range addresses {
		select {
		case r := <-replies:
			if r.err != nil {
				failed = r.err
				break
			}
			if answers = append(answers, r.answer); 2*len(answers) > len(addresses) && late == nil {
				late = time.After(lateAnswers)
			}
		case <-late:
			return answers, nil
		}
	}
	if len(answers) == 0 {
		return nil, failed
	}
	return answers, nil
}

// mostOf returns the most frequent answer, compared by its text.
func mostOf[T any](answers []T, text func(T) string) T {
	count := map[string]int{}
	most := answers[0]
	for _, answer := range answers {
		if count[text(answer)]++; count[text(answer)] > count[text(most)] {
			most = answer
		}
	}
	return most
}

// claim is a sentinel's answer about the master.
type claim struct {
	epoch  uint64
	master string
}

// askSentinels returns a function that learns the layout from sentinels: the master of the newest
// configuration that any of them knows. A sentinel that is cut off from the others may still name an earlier
// master.
func askSentinels(p *pool, addresses []string, name string) func(context.Context, *layout) (*layout, error) {
	return func(ctx context.Context, _ *layout) (*layout, error) {
		claims, err := ask(ctx, p, addresses, func(ctx context.Context, s *server) (claim, error) {
			return askSentinel(ctx, s, name)
		})
		if err != nil {
			return nil, fmt.Errorf("no sentinel names the master %q: %w", name, err)
		}
		newest := slices.MaxFunc(claims, func(a, b claim) int { return cmp.Compare(a.epoch, b.epoch) }).epoch
		claims = slices.DeleteFunc(claims, func(c claim) bool { return c.epoch != newest })
		return oneMaster(mostOf(claims, func(c claim) string { return c.master }).master), nil
	}
}

// askSentinel asks for the address with the command that names a promoted replica at once, and for the epoch
// with the command that returns it.
func askSentinel(ctx context.Context, s *server, name string) (claim, error) {
	address := redis.NewStringSliceCmd(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)
	state := redis.NewMapStringStringCmd(ctx, "SENTINEL", "MASTER", name)
	if _, err := s.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		_ = pipe.Process(ctx, state)
		return pipe.Process(ctx, address)
	}); err != nil {
		return claim{}, err
	}
	if len(address.Val()) != 2 {
		return claim{}, fmt.Errorf("the sentinel returned no address")
	}
	epoch, err := strconv.ParseUint(state.Val()["config-epoch"], 10, 64)
	return claim{epoch, net.JoinHostPort(address.Val()[0], address.Val()[1])}, err
}

// askCluster returns a function that learns the layout from the nodes of a cluster: the layout that most
// reachable nodes give.
func askCluster(p *pool, seeds []string) func(context.Context, *layout) (*layout, error) {
	return func(ctx context.Context, last *layout) (*layout, error) {
		addresses := slices.Clone(seeds)
		if last != nil {
			addresses = append(addresses, last.servers...)
			slices.Sort(addresses)
			addresses = slices.Compact(addresses)
		}
		layouts, err := ask(ctx, p, addresses, askNode)
		if err != nil {
			return nil, fmt.Errorf("no node of the cluster answers: %w", err)
		}
		found := mostOf(layouts, func(l *layout) string { return fmt.Sprint(l.ranges) })
		p.keep(append(slices.Clone(seeds), found.servers...))
		return found, nil
	}
}

func askNode(ctx context.Context, s *server) (*layout, error) {
	answer := redis.NewClusterSlotsCmd(ctx, "cluster", "slots")
	if err := s.Process(ctx, answer); err != nil {
		return nil, err
	}
	l := &layout{}
	for _, slot := range answer.Val() {
		for i, node := range slot.Nodes {
			address := seenFrom(s.address, node.Addr)
			if !l.knows(address) {
				l.servers = append(l.servers, address)
			}
			if i > 0 {
				continue
			}
			if !l.isMaster(address) {
				l.masters = append(l.masters, address)
			}
			l.ranges = append(l.ranges, slotRange{slot.Start, slot.End, address})
		}
	}
	if len(l.ranges) == 0 {
		return nil, fmt.Errorf("the node reports no slots")
	}
	slices.SortFunc(l.ranges, func(a, b slotRange) int { return a.first - b.first })
	return l, nil
}

// seenFrom returns the address of a node as another node gave it. A node that does not know its own address
// gives none, or a loopback address. Then it is the node that was asked (Redis, CLUSTER SLOTS).
func seenFrom(origin, address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	originHost, originPort, err := net.SplitHostPort(origin)
	if err != nil {
		return address
	}
	if host == "" || host == "?" || isLoopback(host) && !isLoopback(originHost) {
		host = originHost
	}
	if port == "0" {
		port = originPort
	}
	return net.JoinHostPort(host, port)
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}
