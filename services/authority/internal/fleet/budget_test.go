package fleet

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/testkit/storetest"
	"github.com/countersign/countersign/pkg/validator/inside"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// office is an authority to which validators connect over an in-memory network, in fake time.
type office struct {
	*Registry
	listener *bufconn.Listener
}

// chain is a store with real authorities and real validators that follow it.
type chain struct {
	*storetest.Store
	t          *testing.T
	ctx        context.Context
	running    sync.WaitGroup
	shared     *fakeShared
	offices    []*office
	validators []*inside.Reporter
}

func startChain(t *testing.T, authorities, validators int) *chain {
	c := &chain{
		Store: storetest.New(t, partitions), t: t,
		shared: &fakeShared{hash: map[string]string{}, listeners: map[*Registry]func([]byte){}},
	}
	var cancel context.CancelFunc
	c.ctx, cancel = context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(func() { cancel(); c.running.Wait() })
	for partition := range partitions {
		c.Commit(c.App(partition, 0), storetest.AddToken("first"))
	}
	for range authorities {
		c.offices = append(c.offices, c.open())
	}
	for i := range validators {
		c.join(fmt.Sprintf("v%02d", i), c.offices[i%authorities])
	}
	return c
}

// follow returns a loaded replica of the store.
func (c *chain) follow() *replica.Replica {
	c.t.Helper()
	r := replica.New(c.Store, c.Codec(), slog.New(slog.DiscardHandler))
	c.running.Go(func() { _ = r.Run(c.ctx) })
	if err := r.WaitLoaded(c.ctx); err != nil {
		c.t.Fatal(err)
	}
	return r
}

func (c *chain) open() *office {
	c.t.Helper()
	shared := &sharedOf{fakeShared: c.shared}
	o := &office{listener: bufconn.Listen(1 << 20)}
	o.Registry = NewRegistry(c.follow(), shared, func(int) {}, NewMetrics(prometheus.NewRegistry()),
		slog.New(slog.DiscardHandler))
	shared.registry = o.Registry
	if err := o.Load(c.ctx); err != nil {
		c.t.Fatal(err)
	}
	c.running.Go(func() { _ = o.Run(c.ctx) })
	service, server := NewService(), grpc.NewServer()
	service.Open(o.Registry)
	countersignv1.RegisterFleetServiceServer(server, service)
	c.running.Go(func() { _ = server.Serve(o.listener) })
	c.running.Go(func() { <-c.ctx.Done(); server.Stop() })
	return o
}

// join starts a validator that reports to an authority, and returns when the authority knows it.
func (c *chain) join(id string, o *office) {
	c.t.Helper()
	v, err := inside.NewReporter(id,
		func(ctx context.Context, _ string) (net.Conn, error) { return o.listener.DialContext(ctx) })
	if err != nil {
		c.t.Fatal(err)
	}
	held, welcomed := c.follow(), make(chan struct{})
	c.running.Go(func() {
		v.Run(c.ctx, held, func() bool { return true }, sync.OnceFunc(func() { close(welcomed) }))
	})
	<-welcomed
	c.validators = append(c.validators, v)
}

// reports returns how many reports the validators have sent.
func (c *chain) reports() (n uint64) {
	for _, v := range c.validators {
		n += v.Reports()
	}
	return n
}

// TestB24_AReceiptTakesOneReportOfEach: a receipt needs one report of each validator, and arrives
// milliseconds after the change. The test runs in fake time. On a real clock, a wait for the next heartbeat
// could not be told from a busy machine.
func TestB24_AReceiptTakesOneReportOfEach(t *testing.T) {
	const changes = 50
	for _, tt := range []struct {
		authorities, validators int
		// within is how long a receipt may take. A report takes up to 5 ms. An authority publishes news every
		// 10 ms.
		within time.Duration
	}{
		{1, 1, 5 * time.Millisecond},
		{1, 7, 5 * time.Millisecond},
		{2, 8, 25 * time.Millisecond},
	} {
		t.Run(fmt.Sprintf("%d authorities, %d validators", tt.authorities, tt.validators), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := startChain(t, tt.authorities, tt.validators)
				time.Sleep(3 * exchangeInterval) // after that every authority knows every validator
				for i := range changes {
					// The pauses vary, so that changes fall at different moments between two heartbeats.
					time.Sleep(20*time.Millisecond + 37*time.Millisecond*time.Duration(i%13))
					before := c.reports()
					made := c.Commit(c.App(i%partitions, 0), storetest.AddToken(fmt.Sprint(i)))
					began := time.Now()
					ctx, cancel := context.WithTimeout(c.ctx, time.Minute)
					receipt, err := c.offices[i%tt.authorities].Wait(ctx, []record.Position{
						{StoreID: c.Meta().StoreID, Partition: made.Partition, Cursor: made.Cursor},
					})
					cancel()
					took := time.Since(began)
					synctest.Wait()
					if err != nil || !receipt.Complete || len(receipt.Entries) != tt.validators {
						t.Fatalf("change %d: got %+v, %v, want a complete receipt of all validators", i, receipt, err)
					}
					if took > tt.within {
						t.Errorf("change %d: the receipt took %v, too long", i, took)
					}
					for _, e := range receipt.Entries {
						if after := e.Reported.Sub(began); e.State != Applied || after < 0 || after > tt.within {
							t.Errorf("change %d: got %+v, reported after %v, want APPLIED in time", i, e, after)
						}
					}
					// A validator may send a heartbeat as well as the report that shows the change.
					if n := c.reports() - before; n < uint64(tt.validators) || n > 2*uint64(tt.validators) {
						t.Errorf("change %d: got %d reports of %d validators, want one or two of each", i, n, tt.validators)
					}
				}
			})
		})
	}
}
