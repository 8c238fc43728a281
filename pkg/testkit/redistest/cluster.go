package redistest

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/testport"
)

const (
	// Slots is the number of slots of a cluster.
	Slots = 16384
	// nodeTimeout is after how many milliseconds of silence a node counts as failed.
	nodeTimeout = 1000
)

// Cluster is a Redis Cluster.
type Cluster struct {
	t testing.TB
	// Servers are all nodes: first the original masters, each with the same number of slots, then their
	// replicas.
	Servers []*Server
	ids     map[*Server]string
}

// StartCluster starts a cluster, and returns when all nodes agree about it. Slots without a working master do
// not block the others. The arguments are those of redis-server, for every node.
func StartCluster(t testing.TB, masters, replicasPerMaster int, args ...string) *Cluster {
	t.Helper()
	return Options{}.StartCluster(t, masters, replicasPerMaster, args...)
}

// StartCluster is the function of the same name, with options.
func (o Options) StartCluster(t testing.TB, masters, replicasPerMaster int, args ...string) *Cluster {
	t.Helper()
	c := &Cluster{t: t, ids: map[*Server]string{}}
	bus := map[*Server]int{}
	for range masters * (1 + replicasPerMaster) {
		s := launch(t, func(s *Server) {
			bus[s] = testport.Free(t)
			s.args = append(o.arguments(s),
				"--cluster-enabled", "yes", "--cluster-node-timeout", strconv.Itoa(nodeTimeout), "--cluster-port", strconv.Itoa(bus[s]),
				"--cluster-require-full-coverage", "no", "--cluster-replica-validity-factor", "0",
				"--cluster-allow-replica-migration", "no", "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
			if o.Proxied {
				s.proxy = NewProxy(t, s.Address())
				host, port, _ := net.SplitHostPort(s.proxy.Address())
				s.args = append(s.args, "--cluster-announce-ip", host, "--cluster-announce-port", port, "--cluster-announce-bus-port",
					strconv.Itoa(bus[s]))
			}
			s.args = append(s.args, args...)
		})
		c.Servers = append(c.Servers, s)
		c.ids[s], _ = s.do("CLUSTER", "MYID").(string)
	}
	for i, s := range c.Servers {
		s.do("CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
		if i < masters {
			s.do("CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(i*Slots/masters), strconv.Itoa((i+1)*Slots/masters-1))
		}
		if i > 0 {
			host, port, _ := net.SplitHostPort(s.PublicAddress())
			c.Servers[0].do("CLUSTER", "MEET", host, port, strconv.Itoa(bus[s]))
		}
	}
	for i, s := range c.Servers[masters:] {
		master := c.Servers[i%masters]
		check.Eventually(t, "joining the cluster", func() error {
			_, err := s.Do("CLUSTER", "REPLICATE", c.ids[master])
			return err
		})
	}
	c.AwaitStable()
	return c
}

// URL returns the URL of the cluster, with all nodes, for the user with all rights.
func (c *Cluster) URL() string { return c.URLFor(c.Servers[0].admin, c.Servers[0].admin) }

// URLFor returns the URL for a user; empty means the default user without a password.
func (c *Cluster) URLFor(user, password string) string {
	query := url.Values{"cluster": {"true"}}
	for _, s := range c.Servers[1:] {
		query.Add("addr", s.PublicAddress())
	}
	u := url.URL{Scheme: "redis", Host: c.Servers[0].PublicAddress(), Path: "/0", RawQuery: query.Encode()}
	if user != "" {
		u.User = url.UserPassword(user, password)
	}
	return u.String()
}

// node is what one node reports about a node of the cluster.
type node struct {
	server *Server
	flags  []string
	master string // the id of the master of a replica
	linked bool
	slots  []slotRange
}

type slotRange struct{ first, last int }

func (n node) isMaster() bool { return slices.Contains(n.flags, "master") }

func (n node) failed() bool {
	return slices.ContainsFunc(n.flags, func(flag string) bool {
		return strings.HasPrefix(flag, "fail") || flag == "handshake" || flag == "noaddr"
	})
}

func (n node) has(slot int) bool {
	return slices.ContainsFunc(n.slots, func(r slotRange) bool { return r.first <= slot && slot <= r.last })
}

// seenBy returns the cluster as a node sees it (Redis, CLUSTER NODES).
func (c *Cluster) seenBy(s *Server) ([]node, error) {
	answer, err := s.Do("CLUSTER", "NODES")
	if err != nil {
		return nil, err
	}
	var nodes []node
	for line := range strings.Lines(answer.(string)) {
		words := strings.Fields(line)
		if len(words) < 8 {
			return nil, fmt.Errorf("CLUSTER NODES: %q", line)
		}
		n := node{flags: strings.Split(words[2], ","), master: words[3], linked: words[7] == "connected"}
		for server, id := range c.ids {
			if id == words[0] {
				n.server = server
			}
		}
		for _, word := range words[8:] {
			if strings.HasPrefix(word, "[") {
				continue // the node is still joining
			}
			first, last, isRange := strings.Cut(word, "-")
			if !isRange {
				last = first
			}
			r := slotRange{}
			r.first, _ = strconv.Atoi(first)
			r.last, _ = strconv.Atoi(last)
			n.slots = append(n.slots, r)
		}
		if n.server != nil {
			nodes = append(nodes, n)
		}
	}
	return nodes, nil
}

// agreed returns the cluster as all running nodes see it, if they agree and no node with slots is down.
func (c *Cluster) agreed() ([]node, error) {
	var first []node
	var text string
	for _, s := range c.Servers {
		if !s.Running() {
			continue
		}
		nodes, err := c.seenBy(s)
		if err != nil {
			return nil, err
		}
		lines := make([]string, 0, len(nodes))
		for _, n := range nodes {
			switch {
			case n.server.Running() && (n.failed() || !n.linked):
				return nil, fmt.Errorf("%s sees %s as %v", s.PublicAddress(), n.server.PublicAddress(), n.flags)
			case len(n.slots) > 0 && !n.server.Running():
				return nil, fmt.Errorf("%s sees slots at %s, which is down", s.PublicAddress(), n.server.PublicAddress())
			case n.server.Running():
				lines = append(lines, fmt.Sprint(n.server.PublicAddress(), n.isMaster(), n.master, n.slots))
			}
		}
		slices.Sort(lines)
		if now := strings.Join(lines, "\n"); first == nil {
			first, text = nodes, now
		} else if now != text {
			return nil, fmt.Errorf("%s sees another cluster:\n%s\nand not\n%s", s.PublicAddress(), now, text)
		}
	}
	return first, nil
}

// AwaitStable returns when all running nodes see the same cluster, every slot has a running master, and every
// running replica follows its master.
func (c *Cluster) AwaitStable() {
	c.t.Helper()
	check.Eventually(c.t, "the nodes agree", func() error {
		nodes, err := c.agreed()
		if err != nil {
			return err
		}
		count := 0
		for _, n := range nodes {
			for _, r := range n.slots {
				count += r.last - r.first + 1
			}
			if !n.server.Running() {
				continue
			}
			if state := fields(first(n.server.Do("CLUSTER", "INFO")))["cluster_state"]; state != "ok" {
				return fmt.Errorf("%s is in state %q", n.server.PublicAddress(), state)
			}
			if !n.isMaster() {
				continue
			}
			replicas := 0
			for _, other := range nodes {
				if other.master == c.ids[n.server] && other.server.Running() {
					replicas++
				}
			}
			if err := follows(n.server, replicas); err != nil {
				return err
			}
		}
		if count != Slots {
			return fmt.Errorf("%d slots have a master", count)
		}
		return nil
	})
}

func first(answer any, _ error) any { return answer }

// Masters returns the masters with slots, as most running nodes see it.
func (c *Cluster) Masters() []*Server {
	c.t.Helper()
	var masters []*Server
	for _, n := range c.view() {
		if n.isMaster() && !n.failed() && len(n.slots) > 0 {
			masters = append(masters, n.server)
		}
	}
	return masters
}

// MasterOf returns the master of a slot.
func (c *Cluster) MasterOf(slot int) *Server {
	c.t.Helper()
	for _, n := range c.view() {
		if n.has(slot) {
			return n.server
		}
	}
	c.t.Fatalf("redistest: slot %d has no master", slot)
	return nil
}

// ReplicasOf returns the replicas of a master.
func (c *Cluster) ReplicasOf(master *Server) []*Server {
	c.t.Helper()
	var replicas []*Server
	for _, n := range c.view() {
		if n.master == c.ids[master] {
			replicas = append(replicas, n.server)
		}
	}
	return replicas
}

// view returns the cluster as most nodes that answer see it.
func (c *Cluster) view() (nodes []node) {
	c.t.Helper()
	check.Eventually(c.t, "a view of the cluster", func() error {
		votes, views := map[string]int{}, map[string][]node{}
		for _, s := range c.Servers {
			if !s.Running() {
				continue
			}
			seen, err := c.seenBy(s)
			if err != nil {
				continue
			}
			slices.SortFunc(seen, func(a, b node) int { return strings.Compare(c.ids[a.server], c.ids[b.server]) })
			text := ""
			for _, n := range seen {
				text += fmt.Sprintln(c.ids[n.server], n.isMaster(), n.master, n.slots)
			}
			votes[text]++
			views[text] = seen
		}
		for text, count := range votes {
			if 2*count > len(c.Servers) {
				nodes = views[text]
				return nil
			}
		}
		return fmt.Errorf("%d views", len(votes))
	})
	return nodes
}

// Failover promotes a replica, and returns when all running nodes know.
func (c *Cluster) Failover(replica *Server) {
	c.t.Helper()
	check.Eventually(c.t, "a failover", func() error {
		_, err := replica.Do("CLUSTER", "FAILOVER")
		return err
	})
	check.Eventually(c.t, "the new master", func() error {
		nodes, err := c.agreed()
		for _, n := range nodes {
			if n.server == replica && !n.isMaster() {
				return fmt.Errorf("%s is a replica", replica.PublicAddress())
			}
		}
		return err
	})
	c.AwaitStable()
}

// AwaitOther returns the master of a slot when it differs from an earlier one.
func (c *Cluster) AwaitOther(before *Server, slot int) *Server {
	c.t.Helper()
	var master *Server
	check.Eventually(c.t, "another master", func() error {
		if master = c.MasterOf(slot); master == before {
			return fmt.Errorf("it is still %s", before.PublicAddress())
		}
		return nil
	})
	return master
}

// MigrateSlot moves a slot with its keys to another master, while it is served.
func (c *Cluster) MigrateSlot(slot int, to *Server) {
	c.t.Helper()
	m := c.BeginMigration(slot, to)
	for m.MoveKey() {
	}
	m.Finish()
}

// Migration is the move of a slot. Its steps are those of redis-cli (Redis, CLUSTER SETSLOT).
type Migration struct {
	cluster  *Cluster
	slot     string
	from, to *Server
}

// BeginMigration begins to move a slot to another master. From then on, missing keys are looked for at the
// new master.
func (c *Cluster) BeginMigration(slot int, to *Server) *Migration {
	c.t.Helper()
	m := &Migration{c, strconv.Itoa(slot), c.MasterOf(slot), to}
	to.do("CLUSTER", "SETSLOT", m.slot, "IMPORTING", c.ids[m.from])
	m.from.do("CLUSTER", "SETSLOT", m.slot, "MIGRATING", c.ids[to])
	return m
}

// MoveKey moves one key. It returns false when none is left.
func (m *Migration) MoveKey() bool {
	m.cluster.t.Helper()
	keys, _ := m.from.do("CLUSTER", "GETKEYSINSLOT", m.slot, "1").([]any)
	if len(keys) == 0 {
		return false
	}
	host, port, _ := net.SplitHostPort(m.to.Address())
	command := []string{"MIGRATE", host, port, keys[0].(string), "0", "5000"}
	if m.to.admin != "" {
		command = append(command, "AUTH2", m.to.admin, m.to.admin)
	}
	m.from.do(command...)
	return true
}

// Finish gives the empty slot to the new master.
func (m *Migration) Finish() {
	m.cluster.t.Helper()
	id := m.cluster.ids[m.to]
	m.to.do("CLUSTER", "SETSLOT", m.slot, "NODE", id)
	m.from.do("CLUSTER", "SETSLOT", m.slot, "NODE", id)
	for _, s := range m.cluster.Masters() {
		if s != m.to && s != m.from {
			s.do("CLUSTER", "SETSLOT", m.slot, "NODE", id)
		}
	}
}
