package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/countersign/countersign/deploy/redisacl"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
)

// topology is the Redis of a campaign.
type topology struct {
	kind   string
	groups []*group
	// sentinels are those of the kind of that name.
	sentinels []*node
	cluster   *redistest.Cluster // nil for the other kinds
	// replicas is how many each master has.
	replicas int
	// urlFor returns the URL for an account.
	urlFor func(user, password string) string
}

// group is a master with its replicas, whoever is which.
type group struct {
	name  string
	nodes []*node
	mu    sync.Mutex
	// master is who was seen to be one last.
	master *node
	// since is when it became that, or before.
	since moment
	// marks are how far the master was at what time, for the latest seconds.
	marks []mark
}

// mark says that a master was at an offset of its history when it was asked, or later.
type mark struct {
	asked  moment
	run    string
	offset int64
}

// node is one Redis server.
type node struct {
	name   string
	server *redistest.Server
	proxy  *redistest.Proxy
	group  *group // nil for a sentinel
	// direct goes around the proxy.
	direct *redis.Client
	// busy is held by whoever keeps the server from running, or from being reached.
	busy sync.Mutex

	mu   sync.Mutex
	seen sighting
}

// sighting is what a node has said of itself.
type sighting struct {
	asked        moment
	up           bool // it answered
	master       bool
	linked       bool // a replica that follows its master
	run          string
	offset       int64
	clusterState string
}

func (n *node) sighting() sighting { n.mu.Lock(); defer n.mu.Unlock(); return n.seen }

// appendOnly makes what is acknowledged outlive the process that acknowledged it. (Redis writes to its
// append-only file before it answers; appendfsync is about the machine's end.)
func appendOnly() []string {
	return []string{
		"--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0", "--maxmemory-policy",
		"noeviction",
	}
}

// addSeats gives every server an account for each seat, with the rights of the shipped one: so that one
// validator can be shut out.
func (t *topology) addSeats(ctx context.Context, seats int) error {
	var errs []error
	for _, n := range t.nodes() {
		for i := range seats {
			command := []any{"ACL", "SETUSER", validatorUser(i), "on", ">" + redisacl.Validator}
			for _, rule := range strings.Fields(redisacl.Rules(redisacl.Validator)) {
				command = append(command, rule)
			}
			errs = append(errs, n.direct.Do(ctx, command...).Err())
		}
		errs = append(errs, n.direct.Do(ctx, "ACL", "SAVE").Err())
	}
	return errors.Join(errs...)
}

// kinds are the topologies by name.
var kinds = map[string]func(testing.TB) *topology{
	"single":   startSingle,
	"sentinel": startSentinel,
	"cluster":  startCluster,
	"rdb":      startRDB,
}

func startSingle(t testing.TB) *topology { return startOne(t, "single", appendOnly()...) }

// startRDB starts a server that keeps what it has when it is told to, or shut down.
func startRDB(t testing.TB) *topology {
	return startOne(t, "rdb", "--save", "3600 1", "--maxmemory-policy", "noeviction")
}

func startOne(t testing.TB, kind string, args ...string) *topology {
	server := redistest.StartWithAccounts(t, args...)
	proxy := redistest.NewProxy(t, server.Address())
	n := newNode(t, "server", server, proxy)
	return &topology{
		kind: kind, groups: []*group{newGroup("server", n)},
		urlFor: func(user, password string) string { return redistest.URL(proxy.Address(), user, password) },
	}
}

func startSentinel(t testing.TB) *topology {
	const replicas = 2
	r := redistest.Options{Proxied: true, Accounts: true}.StartReplicated(t, replicas, appendOnly()...)
	top := &topology{kind: "sentinel", replicas: replicas, urlFor: r.URLFor}
	var nodes []*node
	for i, s := range r.Servers {
		nodes = append(nodes, newNode(t, "server "+strconv.Itoa(i+1), s, s.Proxy()))
	}
	top.groups = []*group{newGroup("servers", nodes...)}
	for i, s := range r.Sentinels {
		top.sentinels = append(top.sentinels, newNode(t, "sentinel "+strconv.Itoa(i+1), s, s.Proxy()))
	}
	return top
}

func startCluster(t testing.TB) *topology {
	const masters, replicas = 3, 1
	c := redistest.Options{Proxied: true, Accounts: true}.StartCluster(t, masters, replicas, appendOnly()...)
	top := &topology{kind: "cluster", cluster: c, replicas: replicas, urlFor: c.URLFor}
	for i := range masters {
		name := "shard " + strconv.Itoa(i+1)
		var nodes []*node
		for j := i; j < len(c.Servers); j += masters {
			nodes = append(nodes, newNode(t, fmt.Sprintf("%s server %d", name, j/masters+1), c.Servers[j], c.Servers[j].Proxy()))
		}
		top.groups = append(top.groups, newGroup(name, nodes...))
	}
	return top
}

func newGroup(name string, nodes ...*node) *group {
	g := &group{name: name, nodes: nodes, master: nodes[0]}
	for _, n := range nodes {
		n.group = g
	}
	return g
}

func newNode(t testing.TB, name string, s *redistest.Server, p *redistest.Proxy) *node {
	n := &node{name: name, server: s, proxy: p}
	admin, err := redis.ParseURL(s.URL())
	check.NoError(t, err)
	n.direct = redis.NewClient(&redis.Options{
		Addr: s.Address(), Username: admin.Username, Password: admin.Password, MaxRetries: -1, DialTimeout: time.Second,
		ReadTimeout: 2 * time.Second, WriteTimeout: 2 * time.Second,
		ContextTimeoutEnabled: true, DisableIdentity: true,
	})
	t.Cleanup(func() { n.direct.Close() })
	return n
}

func (t *topology) nodes() []*node {
	var all []*node
	for _, g := range t.groups {
		all = append(all, g.nodes...)
	}
	return all
}

const (
	// watchInterval is how often each node is looked at, watchTimeout how long it has to answer.
	watchInterval = 50 * time.Millisecond
	watchTimeout  = 250 * time.Millisecond
	// marksKept is how many marks are kept of a group: what a replica that is promoted may be behind.
	marksKept = 600
)

// watch looks at all nodes until ctx ends, and calls promoted when a replica has become a master: what its
// master had acknowledged after floor may be lost from the time from on.
func (t *topology) watch(ctx context.Context, o *oracle, promoted func(n *node, floor, from moment)) {
	var looking sync.WaitGroup
	for _, n := range append(t.nodes(), t.sentinels...) {
		looking.Go(func() {
			for ctx.Err() == nil {
				before := n.sighting()
				n.look(ctx, o)
				if n.group != nil {
					if floor, was := n.group.note(n, before); was {
						promoted(n, floor, before.asked)
					}
				}
				select {
				case <-ctx.Done():
				case <-time.After(watchInterval):
				}
			}
		})
	}
	looking.Wait()
}

func (n *node) look(ctx context.Context, o *oracle) {
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	asked := o.now()
	text, err := n.direct.Info(ctx, "replication", "server", "cluster").Result()
	state := ""
	if err == nil && strings.Contains(text, "cluster_enabled:1") {
		state, _ = n.direct.ClusterInfo(ctx).Result()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil {
		n.seen.up = false
		return
	}
	info := map[string]string{}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		info[key] = value
	}
	n.seen = sighting{asked: asked, up: true, master: info["role"] == "master", linked: info["master_link_status"] == "up",
		run: info["master_replid"]}
	n.seen.offset, _ = strconv.ParseInt(info["master_repl_offset"], 10, 64)
	if !n.seen.master {
		n.seen.offset, _ = strconv.ParseInt(info["slave_repl_offset"], 10, 64)
	}
	if i := strings.Index(state, "cluster_state:"); i >= 0 {
		n.seen.clusterState, _, _ = strings.Cut(state[i+len("cluster_state:"):], "\r")
	}
}

// note takes in what a node has said. Was says that it has become the master; floor is the latest time up
// to which it is known to have everything that the old master had acknowledged.
func (g *group) note(n *node, before sighting) (floor moment, was bool) {
	now := n.sighting()
	g.mu.Lock()
	defer g.mu.Unlock()
	switch old := g.master.sighting(); {
	case !now.up || !now.master:
		return 0, false
	case g.master == n:
		g.marks = append(g.marks, mark{now.asked, now.run, now.offset})
		g.marks = g.marks[max(0, len(g.marks)-marksKept):]
		return 0, false
	case before.asked != 0 && !before.master:
		for _, m := range g.marks {
			if m.run == before.run && m.offset <= before.offset {
				floor = m.asked
			}
		}
	case old.up && !old.master:
		floor = g.since // it was the master all along, and another one beside it for a time
	default:
		return 0, false // deposed, and does not know it yet
	}
	g.master, g.marks, g.since = n, nil, before.asked
	return floor, true
}

func (g *group) current() *node { g.mu.Lock(); defer g.mu.Unlock(); return g.master }

// masters returns one master for each group, or an error when it cannot be told now, or clients would not
// find it.
func (t *topology) masters() ([]*node, error) {
	var all []*node
	for _, g := range t.groups {
		m := g.current()
		if s := m.sighting(); !s.up || !s.master || s.clusterState != "" && s.clusterState != "ok" {
			return nil, fmt.Errorf("%s has no master", g.name)
		}
		all = append(all, m)
	}
	if len(t.sentinels) > 0 {
		votes := 0
		for _, s := range t.sentinels {
			if address, err := s.named(); err == nil && address == all[0].server.PublicAddress() {
				votes++
			}
		}
		if 2*votes <= len(t.sentinels) {
			return nil, fmt.Errorf("%d sentinels name %s", votes, all[0].name)
		}
	}
	return all, nil
}

// named returns which master a sentinel names.
func (n *node) named() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), watchTimeout)
	defer cancel()
	address, err := n.direct.Do(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", redistest.MasterName).StringSlice()
	if err != nil || len(address) != 2 {
		return "", fmt.Errorf("%s names no master: %w", n.name, err)
	}
	return net.JoinHostPort(address[0], address[1]), nil
}

// whole returns nil when every server runs and does what it is there for.
func (t *topology) whole() error {
	if _, err := t.masters(); err != nil {
		return err
	}
	for _, g := range t.groups {
		for _, n := range g.nodes {
			s := n.sighting()
			switch {
			case !s.up || s.clusterState != "" && s.clusterState != "ok":
				return fmt.Errorf("%s does not answer: %q", n.name, s.clusterState)
			case s.master != (n == g.current()) || !s.master && !s.linked:
				return fmt.Errorf("%s is not what it should be: master %t, linked %t", n.name, s.master, s.linked)
			}
		}
	}
	return nil
}

// keep copies what a server has on its disk, put puts the copy back. The server must not run for put.
func (n *node) keep(folder string) error {
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	return os.CopyFS(folder, os.DirFS(filepath.Join(n.server.Dir(), dataFolder)))
}

func (n *node) put(folder string) error {
	to := filepath.Join(n.server.Dir(), dataFolder)
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return os.CopyFS(to, os.DirFS(folder))
}

// dataFolder is where Redis keeps its append-only files.
const dataFolder = "appendonlydir"
