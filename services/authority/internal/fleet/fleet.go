// Package fleet keeps track of the validators. It knows what they report (FleetService), which of them have
// applied a change (receipts), and which changes they hold that the store has lost. Authorities share this
// through Redis, so that each of them can answer for the whole fleet. This package is not part of the public
// API and may change in any release.
package fleet

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/identity"
)

// helloTimeout bounds the wait for the first message of a stream, which has the name of the validator.
const helloTimeout = 5 * time.Second

// Service implements countersignv1.FleetServiceServer. Make one with NewService. It is safe for concurrent
// use.
type Service struct {
	countersignv1.UnimplementedFleetServiceServer
	registry atomic.Pointer[Registry]
	opened   chan struct{} // closed when the registry is set
	usage    atomic.Pointer[UsageSink]
	draining atomic.Pointer[<-chan struct{}]
}

// NewService returns a service without a registry.
func NewService() *Service { return &Service{opened: make(chan struct{})} }

// Open gives the service its registry. Call it once. Until then no validator can report.
func (s *Service) Open(r *Registry) {
	s.registry.Store(r)
	close(s.opened)
}

// EndWith makes all streams and waits end when a channel is closed.
func (s *Service) EndWith(draining <-chan struct{}) { s.draining.Store(&draining) }

// stream is one Report call.
type stream struct {
	// id is the validator's id; empty until the validator has joined.
	id       string
	identity string
	wants    chan int
	ended    chan error
}

// end makes the Report call return an error. Only the first error counts.
func (s *stream) end(why error) {
	select {
	case s.ended <- why:
	default:
	}
}

// Report implements FleetService.Report.
func (s *Service) Report(call grpc.BidiStreamingServer[countersignv1.ReportRequest, countersignv1.ReportResponse]) error {
	r := s.registry.Load()
	if r == nil {
		return errNotOpen
	}
	var draining <-chan struct{}
	if c := s.draining.Load(); c != nil {
		draining = *c
	}
	incoming, failed := receive(call)
	own := &stream{
		identity: identity.From(call.Context()).Name, wants: make(chan int, r.codec.Partitions()),
		ended: make(chan error, 1),
	}
	var floorKnown <-chan struct{} // nil after the floor was sent
	counts := newCounting(call.Context(), s.usage.Load)
	select {
	case m := <-incoming:
		hello, err := r.readHello(m)
		if err != nil {
			return err
		}
		if m.GetLeaving() {
			return s.leave(call.Context(), r, hello)
		}
		if err := r.join(call.Context(), own, hello); err != nil {
			return err
		}
		defer r.drop(own)
		floor, known, later := r.Floor()
		floorKnown = later
		if err := call.Send(welcome(floor, known, m)); err != nil {
			return err
		}
		counts.begin(hello)
	case err := <-failed:
		return endOf(err)
	case <-draining:
		return nil
	case <-time.After(helloTimeout):
		return apierr.Invalid("validator_id", "want a first message that says who reports")
	}
	for {
		var answer *countersignv1.ReportResponse
		select {
		case m := <-incoming:
			u, err := r.readReport(m)
			if err != nil {
				return err
			}
			if batch := m.GetLinks(); batch != nil {
				r.gathered(own, batch)
			}
			if err := r.report(own, u); err != nil {
				return err
			}
			counts.take(u)
			if !u.heartbeat {
				continue
			}
			answer = answerTo(m)
		case <-floorKnown:
			floor, known, later := r.Floor()
			if floorKnown = later; !known {
				continue // the floor has become unavailable again
			}
			answer = &countersignv1.ReportResponse{Floor: floorToProto(floor)}
		case counted := <-counts.counted:
			answer = counted.toProto()
		case partition := <-own.wants:
			answer = &countersignv1.ReportResponse{LinksWanted: []uint32{uint32(partition)}}
		case err := <-own.ended:
			return err
		case err := <-failed:
			return endOf(err)
		case <-draining:
			return nil
		}
		if err := call.Send(answer); err != nil {
			return err
		}
	}
}

// receive passes on a validator's messages until the call ends. The error that ends the call comes from the
// second channel.
func receive(call grpc.BidiStreamingServer[countersignv1.ReportRequest, countersignv1.ReportResponse],
) (<-chan *countersignv1.ReportRequest, <-chan error) {
	incoming, failed := make(chan *countersignv1.ReportRequest), make(chan error, 1)
	go func() {
		for {
			m, err := call.Recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case incoming <- m:
			case <-call.Context().Done():
				return
			}
		}
	}()
	return incoming, failed
}

// endOf returns the result of a call whose stream has ended with err. A validator that closes its stream is
// no error.
func endOf(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

var errNotOpen = apierr.Unavailable(apierr.NotLoaded, "the authority does not know the fleet yet")

// Wait calls Registry.Wait as soon as the registry is open. It returns early when the authority shuts down.
func (s *Service) Wait(ctx context.Context, positions []record.Position) (Receipt, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if c := s.draining.Load(); c != nil {
		go func() {
			select {
			case <-*c:
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	select {
	case <-s.opened:
		return s.registry.Load().Wait(ctx, positions)
	case <-ctx.Done():
		return Receipt{}, errNotOpen
	}
}

// List calls Registry.List.
func (s *Service) List() ([]*countersignv1.Validator, error) {
	r := s.registry.Load()
	if r == nil {
		return nil, errNotOpen
	}
	return r.List(), nil
}

// Instances calls Registry.Instances.
func (s *Service) Instances() ([]Instance, error) {
	r := s.registry.Load()
	if r == nil {
		return nil, errNotOpen
	}
	return r.Instances(), nil
}

// Forget calls Registry.Forget.
func (s *Service) Forget(ctx context.Context, id string, audit func(context.Context) error) error {
	r := s.registry.Load()
	if r == nil {
		return errNotOpen
	}
	return r.Forget(ctx, id, audit)
}
