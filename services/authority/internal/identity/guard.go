package identity

import (
	"context"
	"strings"

	"google.golang.org/grpc"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/services/internal/adminkeys"
)

// anything is the role of those who may do everything, whichever role it takes.
const anything adminkeys.Role = "anything"

// Guard lets a call through to the given service when its caller's role reaches the method, and leaves
// other services (health) alone. A method that does not read by its name needs Admin.
func Guard(source Source, service string) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		ctx, err := guard(ctx, source, info.FullMethod, map[string]reach{service: manages})
		if err != nil {
			return nil, err
		}
		return handler(ctx, request)
	}
}

// GuardStreams does the same for streams: those of the fleet's service need Validator, those of the
// management's service what its other methods need.
func GuardStreams(source Source, management, fleet string) grpc.StreamServerInterceptor {
	return func(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		allowed := func() (context.Context, error) {
			return guard(stream.Context(), source, info.FullMethod, map[string]reach{management: manages, fleet: reports})
		}
		ctx, err := allowed()
		if err != nil {
			return err
		}
		return handler(server, &identified{stream, ctx, allowed})
	}
}

// identified is a stream whose caller is known. A stream may outlive its caller's key, so each message is
// let through only if a new stream would be.
type identified struct {
	grpc.ServerStream
	ctx     context.Context
	allowed func() (context.Context, error)
}

// Context returns the context that holds the caller.
func (s *identified) Context() context.Context { return s.ctx }

// RecvMsg receives a message of a caller who may still send one.
func (s *identified) RecvMsg(message any) error {
	if err := s.ServerStream.RecvMsg(message); err != nil {
		return err
	}
	_, err := s.allowed()
	return err
}

// SendMsg sends a message to a caller who may still get one.
func (s *identified) SendMsg(message any) error {
	if _, err := s.allowed(); err != nil {
		return err
	}
	return s.ServerStream.SendMsg(message)
}

// reach tells whether a role reaches a method of a service.
type reach func(role adminkeys.Role, method string) bool

func manages(role adminkeys.Role, method string) bool {
	return role == adminkeys.Admin || role == adminkeys.Viewer && reads(method)
}

func reports(role adminkeys.Role, _ string) bool { return role == adminkeys.Validator }

// guard returns the context of a call with its caller, or why it is refused.
func guard(ctx context.Context, source Source, fullMethod string, services map[string]reach) (context.Context, error) {
	service, method, _ := strings.Cut(strings.TrimPrefix(fullMethod, "/"), "/")
	reaches, ours := services[service]
	if !ours {
		return ctx, nil
	}
	caller, err := authenticate(ctx, source)
	if err != nil {
		return nil, err
	}
	if caller.Role != anything && !reaches(caller.Role, method) {
		return nil, apierr.PermissionDenied("%s has role %s, which does not reach %s", caller.Name, caller.Role, method)
	}
	return context.WithValue(ctx, contextKey{}, caller), nil
}

func reads(method string) bool {
	for _, verb := range []string{"Get", "List", "Wait"} {
		if strings.HasPrefix(method, verb) {
			return true
		}
	}
	return false
}
