package redistest

import (
	"fmt"
	"testing"

	"github.com/countersign/countersign/pkg/testkit/check"
)

func TestSentinelsReplaceAMasterAndTakeItBackAsAReplica(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{}, {Proxied: true}} {
		t.Run(fmt.Sprintf("%+v", o), func(t *testing.T) {
			t.Parallel()
			r := o.StartReplicated(t, 2)
			first := r.Master()
			if replicas := r.Replicas(); first != r.Servers[0] || len(replicas) != 2 {
				t.Fatalf("%d replicas, and the first server is not the master", len(replicas))
			}
			first.Stop()
			second := r.AwaitOther(first)
			first.Restart()
			r.AwaitStable()
			if role := first.Info("replication")["role"]; role != "slave" {
				t.Errorf("a server that was replaced is a %s when it is back", role)
			}
			if third := r.Failover(); third == second {
				t.Error("a failover without a cause changed nothing")
			}
			r.AwaitStable()
		})
	}
}

// TestProxyStandsForAMaster: sentinels, replicas and clients that ask them reach a master only through its
// proxy.
func TestProxyStandsForAMaster(t *testing.T) {
	t.Parallel()
	r := Options{Proxied: true}.StartReplicated(t, 1)
	first := r.Master()
	first.Proxy().BlackHole()
	second := r.AwaitOther(first)
	if first.Info("replication")["role"] != "master" {
		t.Error("a master behind a black hole knows that it was replaced")
	}
	first.Proxy().Restore()
	r.AwaitStable()
	if host := first.Info("replication")["master_port"]; second.Proxy().Address() != "127.0.0.1:"+host {
		t.Errorf("it follows port %s, not the proxy of its master", host)
	}
}

func TestClusterFailsOverAndMovesSlots(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{}, {Proxied: true}} {
		t.Run(fmt.Sprintf("%+v", o), func(t *testing.T) {
			t.Parallel()
			c := o.StartCluster(t, 3, 1)
			if masters := c.Masters(); len(masters) != 3 {
				t.Fatalf("%d masters", len(masters))
			}
			const key, slot = "{06S}", 0
			first := c.MasterOf(slot)
			first.do("SET", key, "x")
			replica := c.ReplicasOf(first)[0]
			check.Eventually(t, "replication", func() error {
				if n := replica.do("DBSIZE"); n != int64(1) {
					return fmt.Errorf("%v keys", n)
				}
				return nil
			})
			first.Stop()
			if second := c.AwaitOther(first, slot); second != replica {
				t.Errorf("%s took the place, want %s", second.Address(), replica.Address())
			}
			first.Restart()
			c.AwaitStable()
			c.Failover(first)
			if c.MasterOf(slot) != first {
				t.Error("a failover without a cause changed nothing")
			}
			last := c.MasterOf(Slots - 1)
			c.MigrateSlot(slot, last)
			c.AwaitStable()
			if got := last.do("GET", key); got != "x" || c.MasterOf(slot) != last {
				t.Errorf("after its slot was moved a key is %v", got)
			}
			if _, err := first.Do("GET", key); err == nil ||
				err.Error() != fmt.Sprintf("GET: MOVED %d %s", slot, last.PublicAddress()) {
				t.Errorf("at its old place: %v", err)
			}
		})
	}
}
