package redistest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/countersign/countersign/deploy/redisacl"
	"github.com/countersign/countersign/pkg/testkit/check"
)

// as sends one command as an account, on a connection of its own.
func (s *Server) as(user string, args ...string) (any, error) {
	alias := &Server{t: s.t, port: s.port, admin: user}
	return alias.Do(args...)
}

// script writes like a commit. Redis puts all changes of a script into the append-only file as one
// transaction.
const script = "redis.call('SET', KEYS[1], ARGV[1]) redis.call('HSET', KEYS[2], 'app', ARGV[1]) " +
	"redis.call('XADD', KEYS[3], ARGV[1] .. '-0', 'l', 'x') return 'OK'"

// write makes some changes as an authority, and returns the names of the keys that exist then.
func write(t *testing.T, s *Server, from, to int) (keys []string) {
	t.Helper()
	for i := from; i < to; i++ {
		if _, err := s.as(redisacl.Authority, "EVAL", script, "3", "cs:{a}:head", "cs:{a}:policies", "cs:{a}:log",
			fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.as(redisacl.Authority, "SET", fmt.Sprintf("cs:%d", i), "x"); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, fmt.Sprintf("cs:%d", i))
	}
	return append(keys, "cs:{a}:head", "cs:{a}:policies", "cs:{a}:log")
}

// has returns an error unless a server has exactly some keys, and the last change in each of the three that
// the script writes.
func has(s *Server, keys []string, last int) error {
	answer, err := s.Do("KEYS", "*")
	if err != nil {
		return err
	}
	var found []string
	for _, key := range answer.([]any) {
		found = append(found, key.(string))
	}
	slices.Sort(found)
	slices.Sort(keys)
	head, headErr := s.Do("GET", "cs:{a}:head")
	document, documentErr := s.Do("HGET", "cs:{a}:policies", "app")
	length, logErr := s.Do("XLEN", "cs:{a}:log")
	if err := errors.Join(headErr, documentErr, logErr); err != nil {
		return err
	}
	if !slices.Equal(found, keys) || head != fmt.Sprint(last) || document != head || length != int64(last) {
		return fmt.Errorf("there are %v, head %v, document %v, %v log entries; want %v and %d", found, head, document, length,
			keys, last)
	}
	return nil
}

// TestRestartUnderTheAccountsKeepsEverything: Redis 7.0 replays the append-only file with the rights of the
// default user. With a bare `user default off` it drops every transaction, and starts without their data.
func TestRestartUnderTheAccountsKeepsEverything(t *testing.T) {
	for name, args := range map[string][]string{
		"AOF with a preamble":    {"--appendonly", "yes", "--appendfsync", "always", "--aof-use-rdb-preamble", "yes"},
		"AOF without a preamble": {"--appendonly", "yes", "--appendfsync", "always", "--aof-use-rdb-preamble", "no"},
		"RDB":                    nil,
	} {
		t.Run(name, func(t *testing.T) {
			s := StartWithAccounts(t, args...)
			write(t, s, 1, 10)
			if args != nil {
				// Later commands stand behind a base file of either format.
				s.do("BGREWRITEAOF")
				check.Eventually(t, "the file is rewritten", func() error {
					if info := s.Info("persistence"); info["aof_rewrite_in_progress"] != "0" || info["aof_rewrite_scheduled"] != "0" ||
						info["aof_last_bgrewrite_status"] != "ok" {
						return fmt.Errorf("%v", info)
					}
					return nil
				})
			}
			keys := slices.Compact(slices.Sorted(slices.Values(append(write(t, s, 10, 20), keysOf(1, 10)...))))
			if args == nil {
				s.do("SAVE")
			}
			s.Stop()
			s.Restart()
			if err := has(s, keys, 19); err != nil {
				t.Error(err)
			}
		})
	}
}

func keysOf(from, to int) (keys []string) {
	for i := from; i < to; i++ {
		keys = append(keys, fmt.Sprintf("cs:%d", i))
	}
	return keys
}

// TestNobodyComesInWithoutAPassword: the default user has all rights, because the loader needs them, but
// nobody can log in as that user.
func TestNobodyComesInWithoutAPassword(t *testing.T) {
	s := StartWithAccounts(t)
	anonymous := &Server{t: t, port: s.port}
	for _, command := range [][]string{
		{"PING"},
		{"GET", "cs:meta"},
		{"SET", "x", "y"},
		{"ACL", "SETUSER", "default", "on"},
		{"CONFIG", "GET", "*"},
		{"FLUSHALL"},
		{"INFO"},
		{"SUBSCRIBE", "cs:fleet"},
		{"PUBLISH", "x", "y"},
		{"EVAL", "return 1", "0"},
		{"MULTI"},
		{"REPLICAOF", "127.0.0.1", "1"},
		{"PSYNC", "?", "-1"},
		{"SELECT", "0"},
		{"CLIENT", "LIST"},
		{"SHUTDOWN", "NOSAVE"},
		{"HELLO", "3"},
		{"AUTH", ""},
		{"AUTH", "default"},
		{"AUTH", "default", ""},
		{"AUTH", "default", "default"},
		{"HELLO", "3", "AUTH", "default", ""},
		{"AUTH", redisacl.Authority, ""},
		{"AUTH", "nobody", ""},
	} {
		answer, err := anonymous.Do(command...)
		if err == nil || !strings.Contains(err.Error(), "NOAUTH") && !strings.Contains(err.Error(), "WRONGPASS") {
			t.Errorf("%v: %v, %v; want NOAUTH or WRONGPASS", command, answer, err)
		}
	}
	if s.Info("replication")["role"] != "master" {
		t.Error("somebody has changed its role")
	}
}

// TestAccountsThatAreNotFilledIn: Redis does not start with an account that has no password.
func TestAccountsThatAreNotFilledIn(t *testing.T) {
	file, err := os.ReadFile("../../../deploy/redisacl/users.acl")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, dir: t.TempDir()}
	t.Cleanup(s.end)
	s.args = []string{
		"--port", "0", "--unixsocket", filepath.Join(s.dir, "s"), "--aclfile",
		s.write("users.acl", []string{string(file)}),
	}
	if err := s.start(); err == nil || !strings.Contains(err.Error(), "password hash") {
		t.Errorf("it starts: %v", err)
	}
}

// TestReplicationUnderTheAccounts: a replica copies everything from its master, and follows its changes, also
// after a restart of either.
func TestReplicationUnderTheAccounts(t *testing.T) {
	durable := []string{"--appendonly", "yes", "--appendfsync", "always"}
	master := StartWithAccounts(t, durable...)
	write(t, master, 1, 5)
	replica := StartWithAccounts(t, append([]string{"--replicaof", "127.0.0.1 " + fmt.Sprint(master.port)}, durable...)...)
	follows := func(last int) {
		t.Helper()
		keys := append(keysOf(1, last+1), "cs:{a}:head", "cs:{a}:policies", "cs:{a}:log")
		check.Eventually(t, "the replica follows", func() error { return has(replica, keys, last) })
	}
	follows(4)
	write(t, master, 5, 10)
	follows(9)
	replica.Stop()
	write(t, master, 10, 15)
	replica.Restart()
	follows(14)
	master.Stop()
	master.Restart()
	write(t, master, 15, 20)
	follows(19)
}

// TestGroupsUnderTheAccounts: sentinels replace a master, and a slot of a cluster moves to another node.
func TestGroupsUnderTheAccounts(t *testing.T) {
	t.Run("sentinel", func(t *testing.T) {
		r := Options{Accounts: true}.StartReplicated(t, 1)
		master := r.Master()
		keys := write(t, master, 1, 5)
		check.Eventually(t, "the replica follows", func() error { return has(r.Replicas()[0], keys, 4) })
		master.Stop()
		if err := has(r.AwaitOther(master), keys, 4); err != nil {
			t.Error(err)
		}
	})
	t.Run("cluster", func(t *testing.T) {
		c := Options{Accounts: true}.StartCluster(t, 3, 1)
		slot, _ := c.Servers[0].do("CLUSTER", "KEYSLOT", "cs:{a}:head").(int64)
		from := c.MasterOf(int(slot))
		if _, err := from.as(redisacl.Authority, "SET", "cs:{a}:head", "x"); err != nil {
			t.Fatal(err)
		}
		to := c.Masters()[0]
		if to == from {
			to = c.Masters()[1]
		}
		c.MigrateSlot(int(slot), to)
		if answer, err := to.as(redisacl.Authority, "GET", "cs:{a}:head"); answer != "x" {
			t.Errorf("after the move: %v, %v", answer, err)
		}
	})
}
