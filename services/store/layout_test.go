package store_test

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/services/store"
)

// monitor collects the commands that a Redis runs (MONITOR), until end is called.
func (s *system) monitor(t *testing.T) (end func() []string) {
	t.Helper()
	connection := check.Must(net.Dial("tcp", s.redis.Address()))(t)
	t.Cleanup(func() { connection.Close() })
	lines := bufio.NewScanner(connection)
	lines.Buffer(nil, 16<<20)
	fmt.Fprint(connection, "MONITOR\r\n")
	if !lines.Scan() || lines.Text() != "+OK" {
		t.Fatalf("MONITOR: %q", lines.Text())
	}
	return func() (seen []string) {
		if err := s.client.Echo(t.Context(), "the end").Err(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			if strings.HasSuffix(lines.Text(), `"echo" "the end"`) {
				return seen
			}
			seen = append(seen, lines.Text())
		}
		t.Fatal("MONITOR ended")
		return nil
	}
}

var monitored = regexp.MustCompile(`^\+[0-9.]+ \[0 ([^\]]*)\] (.*)$`)

// words parses the arguments of a line of MONITOR, with its escapes.
func words(t *testing.T, line string) (from string, arguments []string) {
	t.Helper()
	parts := monitored.FindStringSubmatch(line)
	if parts == nil {
		t.Fatalf("MONITOR wrote %q", line)
	}
	for rest := parts[2]; rest != ""; {
		quoted := check.Must(strconv.QuotedPrefix(rest))(t)
		arguments = append(arguments, check.Must(strconv.Unquote(quoted))(t))
		rest = strings.TrimPrefix(rest[len(quoted):], " ")
	}
	return parts[1], arguments
}

// TestEveryKeyIsInOneSlot: on a Redis Cluster a script may only use keys of one slot, and must declare them.
// So every key of a commit has its partition's hash tag.
func TestEveryKeyIsInOneSlot(t *testing.T) {
	s := newSystem(t)
	opened := s.open(s.redis.URL())
	for partition := range partitions {
		app := s.appIn(partition)
		tag := strings.TrimSuffix(record.KeysOf(partition).Head, "head")
		made := call(app, "made", add("tok"))
		made.Request = store.Request{Identity: "ada", Method: "Create", ID: "r1", Digest: []byte("content")}
		revoked := call(app, "revoked", revoke)
		revoked.Urgent = true

		end := s.monitor(t)
		update(t, opened, made)
		update(t, opened, revoked)
		lines := end()

		scripts, touched := 0, map[string]bool{}
		declared := map[string]bool{}
		for _, line := range lines {
			from, arguments := words(t, line)
			switch {
			case from == "lua":
				key := arguments[1]
				if strings.EqualFold(arguments[0], "XINFO") {
					key = arguments[2]
				}
				touched[key] = true
			case strings.EqualFold(arguments[0], "eval"):
				scripts++
				for _, key := range arguments[3 : 3+check.Must(strconv.Atoi(arguments[2]))(t)] {
					declared[key] = true
				}
			}
		}
		if scripts != 2 || len(touched) != 6 {
			t.Errorf("%d scripts touched %v: want 2, and head, policies, log, audit, request and channel", scripts, touched)
		}
		for key := range touched {
			if !strings.HasPrefix(key, tag) {
				t.Errorf("a script of partition %d touches %q, want %s...", partition, key, tag)
			}
			if !declared[key] && key != tag+"hint" {
				t.Errorf("a script touches %q without naming it", key)
			}
		}
	}
}

// newClusterSystem returns a store in the single node of a Redis Cluster, which has all slots.
func newClusterSystem(t *testing.T) *system {
	t.Helper()
	s := &system{t: t, redis: redistest.Start(t, "--cluster-enabled", "yes"), ring: keyring.Generate()}
	s.client = redisClient(t, s.redis.URL())
	if err := s.client.Do(t.Context(), "CLUSTER", "ADDSLOTSRANGE", 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	check.Eventually(t, "the cluster", func() error {
		state, err := s.client.ClusterInfo(t.Context()).Result()
		if err == nil && !strings.Contains(state, "cluster_state:ok") {
			err = errors.New(state)
		}
		return err
	})
	s.init()
	return s
}

// TestRedisCluster: a node of a Redis Cluster rejects commands and scripts with keys of several slots.
func TestRedisCluster(t *testing.T) {
	s := newClusterSystem(t)
	opened := s.open(s.redis.URL())
	for partition := range partitions {
		c := call(s.appIn(partition), "made", add("tok"))
		c.Request = store.Request{Identity: "ada", Method: "Create", ID: "r1", Digest: []byte("content")}
		update(t, opened, c)
		if again := update(t, opened, c); again.Repeated == nil {
			t.Error("the request was carried out twice")
		}
	}
	if changes := s.verifyAll(t); changes != partitions {
		t.Errorf("there are %d changes", changes)
	}
}

// TestEmbedded: the store works over the embedded Redis of `dev`.
func TestEmbedded(t *testing.T) {
	server := miniredis.NewMiniRedis()
	if err := server.StartAddr("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	s := &system{t: t, ring: keyring.Generate(), client: redisClient(t, "redis://"+server.Addr()+"/0")}
	s.init()
	r := s.replica(s.client)
	options := store.Options{Embedded: true}
	opened := store.New(store.Over(s.client, partitions, options), r, options, slog.New(slog.DiscardHandler))

	made := call("app", "made", add("tok"))
	made.Request = store.Request{Identity: "ada", Method: "Create", ID: "r1", Digest: []byte("content")}
	update(t, opened, made)
	if again := update(t, opened, made); again.Repeated == nil {
		t.Error("the request was carried out twice")
	}
	urgent := call("app", "revoked", revoke)
	urgent.Urgent = true
	update(t, opened, urgent)
	update(t, opened, call("other", "made", add("tok")))
	if changes := s.verifyAll(t); changes != 3 {
		t.Errorf("there are %d changes, want 3", changes)
	}
	ahead := fmt.Sprintf("%d-0", 99)
	if _, err := server.XAdd(s.keysOf("app").Log, ahead, []string{redisfeed.LinkField, "x"}); err != nil {
		t.Fatal(err)
	}
	_, err := opened.Update(t.Context(), call("app", "refused", note("x")))
	wantUnavailable(t, err, "STORE_UNAVAILABLE")
}
