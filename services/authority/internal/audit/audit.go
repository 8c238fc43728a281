// Package audit builds the events of the audit trail (B23): who called what from where, and what the call did
// to an app. Package store seals the events and commits each with its change. This package is not part of the
// public API and may change in any release.
package audit

import (
	"context"
	"time"

	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/contract"
	"github.com/countersign/countersign/services/authority/internal/identity"
)

// Call returns the event of a call: the caller, the method, the peer, and the risks that the caller accepted.
// What the call does to an app is missing; see Changes.
func Call(ctx context.Context, method string, request proto.Message, now time.Time) *countersignv1.AuditEvent {
	caller := identity.From(ctx)
	event := &countersignv1.AuditEvent{
		EventTime: timestamppb.New(now), Identity: caller.Name, Role: string(caller.Role), Peer: peerOf(ctx), Method: method,
	}
	if r, ok := request.(interface{ GetRequestId() string }); ok {
		event.RequestId = r.GetRequestId()
	}
	if r, ok := request.(interface{ GetAllowLockout() bool }); ok {
		event.AllowLockout = r.GetAllowLockout()
	}
	if r, ok := request.(*countersignv1.SetEnforcementRequest); ok {
		event.AllowRejections, event.MaxRejectedRatio = r.GetAllowRejections(), r.MaxRejectedRatio
	}
	return event
}

func peerOf(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		return p.Addr.String()
	}
	return ""
}

// Changes adds to the event of a change what it did to an app: the app before and after, and the tokens that
// differ, as of the event's time. Before is nil for a new app. It is the store.Options.Audit of an authority.
func Changes(event *countersignv1.AuditEvent, before, after *record.Document) {
	now := event.GetEventTime().AsTime()
	event.AppAfter = contract.App(after.AppID, after, now)
	if before != nil {
		event.AppBefore = contract.App(after.AppID, before, now)
	}
	for _, c := range record.TokenChanges(before, after) {
		if c.After == nil && c.Before.State == policy.Revoked {
			event.RememberedTokenIds = append(event.RememberedTokenIds, c.Before.ID)
			continue
		}
		change := &countersignv1.TokenChange{}
		if c.Before != nil {
			change.Before = contract.Token(c.Before, now)
		}
		if c.After != nil {
			change.After = contract.Token(c.After, now)
		}
		event.Tokens = append(event.Tokens, change)
	}
}
