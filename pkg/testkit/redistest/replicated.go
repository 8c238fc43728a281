package redistest

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/deploy/redisacl"
	"github.com/countersign/countersign/pkg/testkit/check"
)

// Options choose how a group of servers is started.
type Options struct {
	// Proxied puts a proxy in front of every server. The server announces the proxy's address as its own, so
	// clients, sentinels and its replicas find it only there. Traffic that a server starts itself, to its
	// master or on the bus of a cluster, goes to the address of the other side. So the proxy of a master can
	// cut replication, and the proxy of a replica cannot.
	Proxied bool
	// DownAfter is how long a master is silent before a sentinel counts it as down; 0 means half a second.
	// The nodes of a cluster take a second.
	DownAfter time.Duration
	// Accounts gives every server that holds data the accounts of deploy/redisacl; see StartWithAccounts.
	Accounts bool
}

// arguments returns the arguments of a server that holds data.
func (o Options) arguments(s *Server) []string {
	if o.Accounts {
		return append(s.defaults(), s.withAccounts()...)
	}
	return s.defaults()
}

// MasterName is the name of the master at the sentinels.
const MasterName = "store"

const (
	sentinels = 3
	// sentinelQuorum is the number of sentinels that have to agree that a master is down.
	sentinelQuorum = 2
	downAfter      = 500 * time.Millisecond
	// failoverTimeout is after how many milliseconds an unsuccessful failover may be tried again.
	failoverTimeout = 1000
)

// Replicated is a master with replicas, and three sentinels that replace the master when it is down.
type Replicated struct {
	t testing.TB
	// Servers are master and replicas, in the order of their start: the first is the original master.
	// Sentinels watch them.
	Servers, Sentinels []*Server
}

// StartReplicated starts a master with replicas and sentinels, and returns when they all know each other. The
// arguments are those of redis-server, for every server that holds data.
func StartReplicated(t testing.TB, replicas int, args ...string) *Replicated {
	t.Helper()
	return Options{}.StartReplicated(t, replicas, args...)
}

// StartReplicated is the function of the same name, with options.
func (o Options) StartReplicated(t testing.TB, replicas int, args ...string) *Replicated {
	t.Helper()
	r := &Replicated{t: t}
	for range replicas + 1 {
		r.Servers = append(r.Servers, launch(t, func(s *Server) { r.prepare(s, o, args) }))
	}
	host, port, _ := net.SplitHostPort(r.Servers[0].PublicAddress())
	monitor := fmt.Sprintf("sentinel monitor %s %s %s %d", MasterName, host, port, sentinelQuorum)
	for range sentinels {
		r.Sentinels = append(r.Sentinels, launch(t, func(s *Server) { prepareSentinel(s, o, monitor) }))
	}
	r.AwaitStable()
	return r
}

// prepare writes a configuration file, in which sentinels record the role: a restarted server keeps its last
// role.
func (r *Replicated) prepare(s *Server, o Options, args []string) {
	config := []string{"repl-diskless-sync yes", "repl-diskless-sync-delay 0", "repl-ping-replica-period 1"}
	if o.Proxied {
		s.proxy = NewProxy(s.t, s.Address())
		host, port, _ := net.SplitHostPort(s.proxy.Address())
		config = append(config, "replica-announce-ip "+host, "replica-announce-port "+port)
	}
	if len(r.Servers) > 0 {
		host, port, _ := net.SplitHostPort(r.Servers[0].PublicAddress())
		config = append(config, "replicaof "+host+" "+port)
	}
	s.args = append(append([]string{s.write("redis.conf", config)}, o.arguments(s)...), args...)
}

func prepareSentinel(s *Server, o Options, monitor string) {
	if o.Proxied {
		s.proxy = NewProxy(s.t, s.Address())
	}
	down := downAfter
	if o.DownAfter > 0 {
		down = o.DownAfter
	}
	config := []string{
		"port " + strconv.Itoa(s.port), "bind 127.0.0.1", "dir " + s.dir, "daemonize no", monitor,
		fmt.Sprintf("sentinel down-after-milliseconds %s %d", MasterName, down.Milliseconds()),
		fmt.Sprintf("sentinel failover-timeout %s %d", MasterName, failoverTimeout),
		fmt.Sprintf("sentinel parallel-syncs %s 10", MasterName),
	}
	if o.Accounts {
		config = append(config, "sentinel auth-user "+MasterName+" "+redisacl.Sentinel,
			"sentinel auth-pass "+MasterName+" "+redisacl.Sentinel)
	}
	s.args = []string{s.write("sentinel.conf", config), "--sentinel"}
	// Sentinels are slow by default, and stop for 30 s when the clock seems to jump, as it does on a busy
	// machine. They promote a replica only when they have heard from it within five PING-PERIODs, and they
	// ask it once a second (sentinelSelectSlave, sentinelSendPeriodicCommands).
	s.ready = func() error {
		_, err := s.Do("SENTINEL", "DEBUG", "INFO-PERIOD", "200", "PING-PERIOD", "300", "PUBLISH-PERIOD", "200",
			"ASK-PERIOD", "100", "MIN-LINK-RECONNECT-PERIOD", "200", "ELECTION-TIMEOUT", "1000", "SLAVE-RECONF-TIMEOUT", "1000",
			"TILT-PERIOD", "500")
		return err
	}
}

func (s *Server) write(name string, lines []string) string {
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		s.t.Fatalf("redistest: %v", err)
	}
	return path
}

// URL returns the URL of the sentinels, for the servers' user with all rights.
func (r *Replicated) URL() string { return r.URLFor(r.Servers[0].admin, r.Servers[0].admin) }

// URLFor returns the URL for a user of the servers; empty means the default user without a password.
func (r *Replicated) URLFor(user, password string) string {
	query := url.Values{"master_name": {MasterName}}
	for _, s := range r.Sentinels[1:] {
		query.Add("addr", s.PublicAddress())
	}
	if user != "" {
		query.Set("username", user)
		query.Set("password", password)
	}
	u := url.URL{Scheme: "redis", Host: r.Sentinels[0].PublicAddress(), Path: "/0", RawQuery: query.Encode()}
	return u.String()
}

// Master returns the server that most sentinels name as the master.
func (r *Replicated) Master() *Server {
	r.t.Helper()
	var master *Server
	check.Eventually(r.t, "a master that most sentinels name", func() (err error) {
		master, err = r.named()
		return err
	})
	return master
}

func (r *Replicated) named() (*Server, error) {
	votes := map[*Server]int{}
	for _, s := range r.Sentinels {
		if named := r.namedBy(s); named != nil {
			votes[named]++
		}
	}
	for s, count := range votes {
		if 2*count > len(r.Sentinels) {
			return s, nil
		}
	}
	return nil, fmt.Errorf("the sentinels name %d servers", len(votes))
}

// namedBy returns the master that one sentinel names; nil if it names none.
func (r *Replicated) namedBy(sentinel *Server) *Server {
	if !sentinel.Running() {
		return nil
	}
	answer, _ := sentinel.Do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MasterName)
	if address, ok := answer.([]any); ok && len(address) == 2 {
		for _, s := range r.Servers {
			if s.PublicAddress() == net.JoinHostPort(address[0].(string), address[1].(string)) {
				return s
			}
		}
	}
	return nil
}

// Replicas returns all servers but the master.
func (r *Replicated) Replicas() []*Server {
	r.t.Helper()
	return others(r.Servers, r.Master())
}

func others(servers []*Server, but *Server) (found []*Server) {
	for _, s := range servers {
		if s != but {
			found = append(found, s)
		}
	}
	return found
}

// Failover makes the sentinels promote a replica, and returns the new master. The old master need not be
// down.
func (r *Replicated) Failover() *Server {
	r.t.Helper()
	before := r.Master()
	check.Eventually(r.t, "a failover", func() error {
		if r.namedBy(r.Sentinels[0]) != before {
			return nil
		}
		// A failover may be given up half-way, and Redis rejects a second one meanwhile.
		_, err := r.Sentinels[0].Do("SENTINEL", "FAILOVER", MasterName)
		return errors.Join(errors.New("it was asked for"), err)
	})
	return r.AwaitOther(before)
}

// AwaitOther returns the master when it differs from an earlier one.
func (r *Replicated) AwaitOther(before *Server) *Server {
	r.t.Helper()
	var master *Server
	check.Eventually(r.t, "another master", func() (err error) {
		if master, err = r.named(); err == nil && master == before {
			err = fmt.Errorf("it is still %s", before.PublicAddress())
		}
		if err == nil && master.Info("replication")["role"] != "master" {
			err = fmt.Errorf("%s is no master", master.PublicAddress())
		}
		return err
	})
	return master
}

// AwaitStable returns when all running servers follow one master, and all running sentinels know them and
// each other.
func (r *Replicated) AwaitStable() {
	r.t.Helper()
	check.Eventually(r.t, "master, replicas and sentinels know each other", func() error {
		master, err := r.named()
		if err != nil {
			return err
		}
		replicas := 0
		for _, s := range others(r.Servers, master) {
			if s.Running() {
				replicas++
			}
		}
		if err := follows(master, replicas); err != nil {
			return err
		}
		for _, s := range r.Sentinels {
			if !s.Running() {
				continue
			}
			if err := knows(s, replicas, len(r.Sentinels)-1); err != nil {
				return err
			}
		}
		return nil
	})
}

// knows returns an error unless a sentinel sees a master with a number of working replicas and other
// sentinels.
func knows(sentinel *Server, replicas, others int) error {
	answer, err := sentinel.Do("SENTINEL", "MASTER", MasterName)
	if err != nil {
		return err
	}
	master := pairs(answer)
	if answer, err = sentinel.Do("SENTINEL", "REPLICAS", MasterName); err != nil {
		return err
	}
	working := 0
	list, _ := answer.([]any)
	for _, replica := range list {
		if state := pairs(replica); state["flags"] == "slave" && state["role-reported"] == "slave" &&
			state["master-link-status"] == "ok" {
			working++
		}
	}
	if master["flags"] != "master" || master["num-other-sentinels"] != strconv.Itoa(others) || working != replicas {
		return fmt.Errorf("a sentinel sees %s, %d replicas and %s other sentinels", master["flags"], working,
			master["num-other-sentinels"])
	}
	return nil
}

// follows returns an error unless a number of replicas follow a master.
func follows(master *Server, replicas int) error {
	info := master.Info("replication")
	online := 0
	for key, value := range info {
		if strings.HasPrefix(key, "slave") && strings.Contains(value, "state=online") {
			online++
		}
	}
	if info["role"] != "master" || online != replicas {
		return fmt.Errorf("%s is a %q with %d replicas, want %d", master.PublicAddress(), info["role"], online, replicas)
	}
	return nil
}

// pairs reads a list of keys and values.
func pairs(answer any) map[string]string {
	list, _ := answer.([]any)
	found := map[string]string{}
	for i := 0; i+1 < len(list); i += 2 {
		key, _ := list[i].(string)
		found[key], _ = list[i+1].(string)
	}
	return found
}
