// Package performance holds the measurements of docs/performance.md. In CI they run for seconds and check
// counts and decisions, never times. With longer flags and -v they print the figures as tables.
package performance

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/metadata"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/check"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/test/cluster"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if binaryFolder != "" {
			_ = os.RemoveAll(binaryFolder)
		}
		os.Exit(code)
	}))
}

const events = countersignv1.Scope_SCOPE_EVENTS

// patience bounds every wait. A busy machine with the race detector is slow.
const patience = 2 * time.Minute

// durable makes Redis persist every write before it answers, as in production.
var durable = []string{"--appendonly", "yes", "--appendfsync", "always"}

// world is a cluster with clients of its authority.
type world struct {
	*cluster.Cluster
	t          testing.TB
	management countersignv1.AuthorityServiceClient
	// admin is a context with the admin's key.
	admin context.Context
}

func start(t testing.TB, options cluster.Options) *world {
	t.Helper()
	w := &world{Cluster: cluster.Start(t, options), t: t}
	w.admin = metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+w.AdminKey.Reveal())
	w.management = countersignv1.NewAuthorityServiceClient(check.Dial(t, w.Authority, retryQuickly))
	return w
}

// redis returns a client of the Redis with all rights.
func (w *world) redis(t testing.TB) *redisfeed.Client {
	t.Helper()
	client := check.Must(redisfeed.Open(w.RedisURL, redisfeed.Options{}))(t)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// retryQuickly makes a connection find a server within milliseconds of its start.
var retryQuickly = grpc.WithConnectParams(grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 5 * time.Millisecond, Multiplier: 1, MaxDelay: 5 * time.Millisecond},
	MinConnectTimeout: time.Second,
})

// appIn returns an app id in a partition. It is always the same for the same prefix.
func appIn(partition int, prefix string) string {
	for i := 0; ; i++ {
		id := fmt.Sprintf("%s%d", prefix, i)
		if hash := policy.HashApp(id); hash.Partition(record.DefaultPartitions) == partition {
			return id
		}
	}
}
