package fleet

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/grpcclient"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/storetest"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const partitions = 4

// fakeAuthority records the reports that it receives, and answers as the test says.
type fakeAuthority struct {
	countersignv1.UnimplementedFleetServiceServer
	address string
	// dial connects validators to it. Nil means over TCP, at address.
	dial func(context.Context, string) (net.Conn, error)

	mu       sync.Mutex
	received []received
	streams  int
	keys     []string
	floor    []*countersignv1.Position
	silent   bool
	refuse   error
	wants    chan uint32
	// pending makes the first answer say that the floor is pending. The test sends the floor later.
	pending bool
	tells   chan *countersignv1.ReportResponse
	// count counts a batch of usage counts and returns how far the partition's batches are counted, or false
	// for no answer. Nil is an authority of an earlier release.
	count func(*countersignv1.UsageBatch) (uint64, bool)
}

type received struct {
	*countersignv1.ReportRequest
	at     time.Time
	stream int
}

func newAuthority(t *testing.T) *fakeAuthority {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := serveAuthority(t, listener)
	f.address = listener.Addr().String()
	return f
}

func serveAuthority(t *testing.T, listener net.Listener) *fakeAuthority {
	t.Helper()
	f := &fakeAuthority{address: "127.0.0.1:1", wants: make(chan uint32, 10), tells: make(chan *countersignv1.ReportResponse)}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(5 << 20))
	countersignv1.RegisterFleetServiceServer(server, f)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return f
}

func (f *fakeAuthority) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeAuthority) all() []received {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]received{}, f.received...)
}

// Report implements countersignv1.FleetServiceServer.
func (f *fakeAuthority) Report(
	call grpc.BidiStreamingServer[countersignv1.ReportRequest, countersignv1.ReportResponse],
) error {
	incoming, _ := metadata.FromIncomingContext(call.Context())
	f.mu.Lock()
	f.streams++
	number, refuse := f.streams, f.refuse
	f.keys = append(f.keys, strings.Join(incoming.Get("authorization"), ","))
	f.mu.Unlock()
	if refuse != nil {
		return refuse
	}
	done := make(chan struct{})
	defer close(done)
	send := make(chan *countersignv1.ReportResponse)
	go func() {
		for {
			select {
			case <-done:
				return
			case m := <-f.tells:
				select {
				case send <- m:
				case <-done:
					return
				}
			case partition := <-f.wants:
				select {
				case send <- &countersignv1.ReportResponse{LinksWanted: []uint32{partition}}:
				case <-done:
					return
				}
			}
		}
	}()
	messages, failed := make(chan *countersignv1.ReportRequest), make(chan error, 1)
	go func() {
		for {
			m, err := call.Recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case messages <- m:
			case <-done:
				return
			}
		}
	}()
	for first := true; ; {
		var answer *countersignv1.ReportResponse
		select {
		case m := <-messages:
			f.mu.Lock()
			f.received = append(f.received, received{m, time.Now(), number})
			silent := f.silent
			if m.GetLeaving() {
				f.mu.Unlock()
				return nil
			}
			if batch := m.GetUsage(); batch != nil && f.count != nil {
				if number, answers := f.count(batch); answers {
					answer = &countersignv1.ReportResponse{UsagePartition: &batch.Partition, UsageAcknowledged: number}
				}
			}
			if (m.GetDataAge() == nil || silent) && answer == nil {
				f.mu.Unlock()
				continue
			}
			if answer != nil {
				f.mu.Unlock()
				break
			}
			answer = &countersignv1.ReportResponse{Received: m.GetSequence(), WallTime: timestamppb.Now()}
			if first {
				if first = false; f.pending {
					answer.FloorPending = true
				} else {
					answer.Floor = f.floor
				}
			}
			f.mu.Unlock()
		case answer = <-send:
		case err := <-failed:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := call.Send(answer); err != nil {
			return err
		}
	}
}

// kit is a replica with a reporter and a fake authority.
type kit struct {
	*storetest.Store
	t         *testing.T
	replica   *replica.Replica
	reporter  *Reporter
	authority *fakeAuthority
	welcomed  chan struct{}
	// silent says that the validator does not decide from this replica.
	silent atomic.Bool
	stop   func()
}

func start(t *testing.T, authority *fakeAuthority, change func(*Config)) *kit {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	k := &kit{Store: storetest.New(t, partitions), t: t, authority: authority, welcomed: make(chan struct{}, 100)}
	for partition := range partitions {
		k.Commit(k.App(partition, 0), storetest.AddToken("first"))
	}
	k.replica = replica.New(k.Store, k.Codec(), log)
	config := Config{
		Authority: grpcclient.Address(authority.address), Key: secret.New("csadm_key"), ID: "v",
		KeyIDs: []string{"k1", "k2"}, Log: log, Dial: authority.dial,
	}
	change(&config)
	var err error
	if k.reporter, err = New(config); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = k.replica.Run(ctx) })
	if err := k.replica.WaitLoaded(ctx); err != nil {
		t.Fatal(err)
	}
	running.Go(func() {
		k.reporter.Run(ctx, k.replica, func() bool { return !k.silent.Load() }, func() { k.welcomed <- struct{}{} })
	})
	k.stop = func() { cancel(); running.Wait() }
	t.Cleanup(k.stop)
	return k
}

func (k *kit) awaitWelcome() {
	k.t.Helper()
	select {
	case <-k.welcomed:
	case <-time.After(20 * time.Second):
		k.t.Fatal("not welcomed")
	}
}

// find waits for a message that satisfies has.
func (k *kit) find(what string, has func(received) bool) (found received) {
	k.t.Helper()
	check.Eventually(k.t, what, func() error {
		for _, m := range k.authority.all() {
			if has(m) {
				found = m
				return nil
			}
		}
		return errors.New("not received")
	})
	return found
}
