// Package fleet knows the validators: what they report (FleetService), who of them has applied a change
// (receipts), and what they hold that the store has lost. Authorities share what they know through Redis,
// so that each can answer for all.
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

// helloTimeout bounds how long a stream may be silent before it says who it is.
const helloTimeout = 5 * time.Second

// Service implements countersignv1.FleetServiceServer. Make one with NewService. It is safe for concurrent
// use.
type Service struct {
	countersignv1.UnimplementedFleetServiceServer
	registry atomic.Pointer[Registry]
	opened   chan struct{} // closed when there is a registry
	draining atomic.Pointer[<-chan struct{}]
}

// NewService returns a service without a fleet.
func NewService() *Service { return &Service{opened: make(chan struct{})} }

// Open gives the service the fleet; it is called once. Until then nobody can report.
func (s *Service) Open(r *Registry) {
	s.registry.Store(r)
	close(s.opened)
}

// EndWith makes all streams end when a channel is closed.
func (s *Service) EndWith(draining <-chan struct{}) { s.draining.Store(&draining) }

// stream is one Report call.
type stream struct {
	// id is the validator's, once it has joined.
	id       string
	identity string
	wants    chan int
	ended    chan error
}

// end makes the call end with an error, if nothing else has ended it.
func (s *stream) end(why error) {
	select {
	case s.ended <- why:
	default:
	}
}

// Report implements the RPC of that name.
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
	own := &stream{identity: identity.From(call.Context()).Name, wants: make(chan int, r.codec.Partitions()), ended: make(chan error, 1)}
	var floorKnown <-chan struct{} // nil when the floor was told
	select {
	case m := <-incoming:
		hello, err := r.readHello(m)
		if err != nil {
			return err
		}
		if m.GetLeaving() {
			return r.leave(call.Context(), hello)
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
			if !u.heartbeat {
				continue
			}
			answer = answerTo(m)
		case <-floorKnown:
			floor, known, later := r.Floor()
			if floorKnown = later; !known {
				continue // another loss came between
			}
			answer = &countersignv1.ReportResponse{Floor: floorToProto(floor)}
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

// receive passes on what a validator sends, until the call ends.
func receive(call grpc.BidiStreamingServer[countersignv1.ReportRequest, countersignv1.ReportResponse]) (<-chan *countersignv1.ReportRequest, <-chan error) {
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

// endOf returns what a call ends with when its validator has gone.
func endOf(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

var errNotOpen = apierr.Unavailable(apierr.NotLoaded, "the authority does not know the fleet yet")

// Wait is that of the registry, but ends early when the authority is shut down. It waits for the fleet to
// be known too.
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

// List is that of the registry.
func (s *Service) List() ([]*countersignv1.Validator, error) {
	r := s.registry.Load()
	if r == nil {
		return nil, errNotOpen
	}
	return r.List(), nil
}

// Forget is that of the registry.
func (s *Service) Forget(ctx context.Context, id string, audit func(context.Context) error) error {
	r := s.registry.Load()
	if r == nil {
		return errNotOpen
	}
	return r.Forget(ctx, id, audit)
}
