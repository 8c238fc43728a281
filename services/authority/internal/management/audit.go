package management

import (
	"context"
	"time"

	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/identity"
)

// annotate adds to an audit event who called which method from where, by which role, and what the caller
// accepted.
func annotate(ctx context.Context, event *countersignv1.AuditEvent, method string, request proto.Message) {
	caller := identity.From(ctx)
	event.Identity, event.Role, event.Peer, event.Method = caller.Name, string(caller.Role), peerOf(ctx), method
	if r, ok := request.(interface{ GetAllowLockout() bool }); ok {
		event.AllowLockout = r.GetAllowLockout()
	}
	if r, ok := request.(*countersignv1.SetEnforcementRequest); ok {
		event.AllowRejections, event.MaxRejectedRatio = r.GetAllowRejections(), r.MaxRejectedRatio
	}
}

func peerOf(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		return p.Addr.String()
	}
	return ""
}

// Event returns the audit event of a change of an app: all but the method, where it came from, and its
// revision. Before is nil for a new app.
func Event(before, after *record.Document, identity string, now time.Time) *countersignv1.AuditEvent {
	event := &countersignv1.AuditEvent{
		EventTime: timestamppb.New(now), Identity: identity, AppId: after.AppID,
		AppAfter: appToProto(after.AppID, after, now),
	}
	old := map[string]record.Token{}
	if before != nil {
		event.AppBefore = appToProto(after.AppID, before, now)
		for _, t := range before.Tokens {
			old[t.ID] = t
		}
	}
	for i := range after.Tokens {
		t := &after.Tokens[i]
		was, existed := old[t.ID]
		delete(old, t.ID)
		switch {
		case !existed:
			event.Tokens = append(event.Tokens, &countersignv1.TokenChange{After: tokenToProto(t, now)})
		case was != *t:
			event.Tokens = append(event.Tokens, &countersignv1.TokenChange{Before: tokenToProto(&was, now), After: tokenToProto(t, now)})
		}
	}
	if before != nil {
		for i := range before.Tokens {
			t, left := old[before.Tokens[i].ID]
			switch {
			case !left:
			case t.State == policy.Revoked:
				event.RememberedTokenIds = append(event.RememberedTokenIds, t.ID)
			default:
				event.Tokens = append(event.Tokens, &countersignv1.TokenChange{Before: tokenToProto(&t, now)})
			}
		}
	}
	return event
}
