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
	// sentinels are set for the kind sentinel only.
	sentinels []*node
	cluster   *redistest.Cluster // nil for other kinds
	// replicas is the number of Redis replicas of each master.
	replicas int
	// urlFor returns the URL for an account.
	urlFor func(user, password string) string
}

// group is a master with its replicas. The roles may change.
type group struct {
	name  string
	nodes []*node
	mu    sync.Mutex
	// master is the node that was last seen as master.
	master *node
	// since is when it became master, or earlier.
	since moment
	// marks are the offsets of the master in the latest seconds.
	marks []mark
}

// mark says that a master reached a replication offset at a moment, or later.
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
	group  *group // nil for sentinels
	// direct bypasses the proxy.
	direct *redis.Client
	// busy is locked while a fault suspends the server or makes it unreachable.
	busy sync.Mutex

	mu   sync.Mutex
	seen sighting
}

// sighting is the latest answer of a node about its role.
type sighting struct {
	asked        moment
	up           bool // the node answered
	master       bool
	linked       bool // the replica follows its master
	run          string
	offset       int64
	clusterState string
}

func (n *node) sighting() sighting { n.mu.Lock(); defer n.mu.Unlock(); return n.seen }

// appendOnly makes acknowledged writes outlive the server process. (Redis writes to its append-only file
// before it answers. appendfsync matters only for the end of the machine.)
func appendOnly() []string {
	return []string{
		"--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0", "--maxmemory-policy",
		"noeviction",
	}
}

// addSeats adds an account for each seat to every server, with the rights of the shipped account, so that one
// validator can be locked out.
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

// startRDB starts a server that persists only RDB snapshots. It writes one on command and at a shutdown.
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
	// watchInterval is the pause between two questions to a node. watchTimeout is how long the node may take
	// to answer.
	watchInterval = 50 * time.Millisecond
	watchTimeout  = 250 * time.Millisecond
	// marksKept is the number of marks of a group: a promoted replica may be this far behind.
	marksKept = 600
)

// watch polls all nodes until ctx ends. It calls promoted when a replica has become master: changes that the
// old master acknowledged after floor may be lost from the time from on.
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
	n.seen = sighting{
		asked: asked, up: true, master: info["role"] == "master", linked: info["master_link_status"] == "up",
		run: info["master_replid"],
	}
	n.seen.offset, _ = strconv.ParseInt(info["master_repl_offset"], 10, 64)
	if !n.seen.master {
		n.seen.offset, _ = strconv.ParseInt(info["slave_repl_offset"], 10, 64)
	}
	if i := strings.Index(state, "cluster_state:"); i >= 0 {
		n.seen.clusterState, _, _ = strings.Cut(state[i+len("cluster_state:"):], "\r")
	}
}

// note records the answer of a node. Was reports that it has become the master. Floor is the latest time up
// to which it certainly has everything that the old master acknowledged.
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
		floor = g.since // the node stayed master while its group had a second master for a time
	default:
		return 0, false // the node was deposed, but does not know it yet
	}
	g.master, g.marks, g.since = n, nil, before.asked
	return floor, true
}

func (g *group) current() *node { g.mu.Lock(); defer g.mu.Unlock(); return g.master }

// masters returns one master for each group. It fails when the roles are unknown, or clients would not find
// the masters.
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

// named returns the master that a sentinel names.
func (n *node) named() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), watchTimeout)
	defer cancel()
	address, err := n.direct.Do(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", redistest.MasterName).StringSlice()
	if err != nil || len(address) != 2 {
		return "", fmt.Errorf("%s names no master: %w", n.name, err)
	}
	return net.JoinHostPort(address[0], address[1]), nil
}

// whole returns nil when every server runs in its role, and otherwise an error that says what is wrong.
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
				return fmt.Errorf("%s is in the wrong role: master %t, linked %t", n.name, s.master, s.linked)
			}
		}
	}
	return nil
}

// keep copies the data folder of a server, put puts the copy back. The server must not run during put.
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
