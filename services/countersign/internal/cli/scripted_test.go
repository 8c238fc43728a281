package cli

import (
	"context"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// scripted is an authority with answers that the test sets. A call without an answer is UNIMPLEMENTED.
type scripted struct {
	fake
	mu        sync.Mutex
	asked     []proto.Message
	enforce   func(*countersignv1.SetEnforcementRequest) (*countersignv1.SetEnforcementResponse, error)
	readiness func(*countersignv1.GetReadinessRequest) (*countersignv1.GetReadinessResponse, error)
	all       map[string]*countersignv1.ListReadinessResponse // by page token
	tokens    map[string]*countersignv1.ListTokensResponse    // by page token
	found     func(*countersignv1.FindTokenRequest) (*countersignv1.FindTokenResponse, error)
	revoke    func(*countersignv1.RevokeTokenRequest) (*countersignv1.RevokeTokenResponse, error)
	rotate    *countersignv1.RotateTokenResponse
}

func ask[Q proto.Message, R any](s *scripted, request Q, answer func(Q) (R, error)) (R, error) {
	s.mu.Lock()
	s.asked = append(s.asked, request)
	s.mu.Unlock()
	if answer == nil {
		var none R
		return none, status.Error(codes.Unimplemented, "not served")
	}
	return answer(request)
}

// requests returns the received requests.
func (s *scripted) requests() []proto.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// SetEnforcement implements countersignv1.AuthorityServiceServer.
func (s *scripted) SetEnforcement(_ context.Context, r *countersignv1.SetEnforcementRequest,
) (*countersignv1.SetEnforcementResponse, error) {
	return ask(s, r, s.enforce)
}

// GetReadiness implements countersignv1.AuthorityServiceServer.
func (s *scripted) GetReadiness(_ context.Context, r *countersignv1.GetReadinessRequest,
) (*countersignv1.GetReadinessResponse, error) {
	return ask(s, r, s.readiness)
}

// ListReadiness implements countersignv1.AuthorityServiceServer.
func (s *scripted) ListReadiness(_ context.Context, r *countersignv1.ListReadinessRequest,
) (*countersignv1.ListReadinessResponse, error) {
	return s.all[r.GetPageToken()], nil
}

// ListTokens implements countersignv1.AuthorityServiceServer.
func (s *scripted) ListTokens(_ context.Context, r *countersignv1.ListTokensRequest,
) (*countersignv1.ListTokensResponse, error) {
	return s.tokens[r.GetPageToken()], nil
}

// FindToken implements countersignv1.AuthorityServiceServer.
func (s *scripted) FindToken(_ context.Context, r *countersignv1.FindTokenRequest,
) (*countersignv1.FindTokenResponse, error) {
	return ask(s, r, s.found)
}

// RevokeToken implements countersignv1.AuthorityServiceServer.
func (s *scripted) RevokeToken(_ context.Context, r *countersignv1.RevokeTokenRequest,
) (*countersignv1.RevokeTokenResponse, error) {
	return ask(s, r, s.revoke)
}

// RotateToken implements countersignv1.AuthorityServiceServer.
func (s *scripted) RotateToken(_ context.Context, r *countersignv1.RotateTokenRequest,
) (*countersignv1.RotateTokenResponse, error) {
	return ask(s, r, func(*countersignv1.RotateTokenRequest) (*countersignv1.RotateTokenResponse, error) {
		return s.rotate, nil
	})
}
