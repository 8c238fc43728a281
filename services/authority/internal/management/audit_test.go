package management_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/check"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/management"
)

// audited returns the rows of a partition's trail, oldest first, and makes sure that the trail ends where
// the head says.
func (w *world) audited(t testing.TB, partition int) []*pb.AuditEvent {
	t.Helper()
	codec := record.NewCodec(w.Ring, check.Must(w.redis.Meta(t.Context(), w.Ring))(t))
	var tail record.AuditTail
	var events []*pb.AuditEvent
	for _, entry := range check.Must(w.redis.XRange(t.Context(), record.KeysOf(partition).Audit, "-", "+").Result())(t) {
		event, next, err := codec.OpenAudit(partition, tail, []byte(entry.Values["e"].(string)))
		if err != nil {
			t.Fatal(err)
		}
		events, tail = append(events, event), next
	}
	head := check.Must(codec.OpenHead(partition, check.Must(w.redis.Get(t.Context(),
		record.KeysOf(partition).Head).Bytes())(t)))(t)
	if head.Audit.Sequence != tail.Sequence || string(head.Audit.Chain) != string(tail.Chain) {
		t.Errorf("the trail of partition %d ends at row %d, the head says %d", partition, tail.Sequence, head.Audit.Sequence)
	}
	return events
}

// TestB23_RowsSayWhoAcceptedWhat: every row has the caller's name, role and address, the method, the request
// id, and the risks that the caller accepted.
func TestB23_RowsSayWhoAcceptedWhat(t *testing.T) {
	w := newWorld(t)
	app := newApp()
	token := w.create(t, app, "a", events).GetToken().GetTokenId()
	for i, step := range []struct {
		request proto.Message
		want    *pb.AuditEvent
	}{
		{
			&pb.SetEnforcementRequest{
				AppId: app, Scopes: []pb.Scope{events}, AllowRejections: true,
				MaxRejectedRatio: proto.Float64(0.5),
			},
			&pb.AuditEvent{AllowRejections: true, MaxRejectedRatio: proto.Float64(0.5)},
		},
		{&pb.UpdateTokenRequest{
			AppId: app, Token: &pb.Token{TokenId: token, State: disabled},
			UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"state"}}, AllowLockout: true,
		}, &pb.AuditEvent{AllowLockout: true}},
		{&pb.UpdateTokenRequest{
			AppId: app, Token: &pb.Token{TokenId: token, State: active},
			UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"state"}},
		}, &pb.AuditEvent{}},
		{&pb.SetEnforcementRequest{AppId: app}, &pb.AuditEvent{}},
		{&pb.RevokeTokenRequest{AppId: app, TokenId: token, AllowLockout: true}, &pb.AuditEvent{AllowLockout: true}},
		{&pb.DeleteAppRequest{AppId: app}, &pb.AuditEvent{}},
	} {
		method := strings.TrimSuffix(string(proto.MessageName(step.request).Name()), "Request")
		fields := step.request.ProtoReflect()
		fields.Set(fields.Descriptor().Fields().ByName("request_id"), protoreflect.ValueOfString(fmt.Sprint(method, i)))
		check.Must(w.invoke(t, method, step.request))(t)
		all := w.audited(t, partitionOf(app))
		got := all[len(all)-1]
		if got.GetIdentity() != "admin" || got.GetRole() != "admin" || got.GetPeer() == "" || got.GetMethod() != method ||
			got.GetRequestId() != fmt.Sprint(method, i) || got.GetAppId() != app ||
			time.Since(got.GetEventTime().AsTime()) > patience || got.GetRevision() == 0 {
			t.Errorf("%s: the row is %v", method, got)
		}
		if got.GetAllowLockout() != step.want.GetAllowLockout() || got.GetAllowRejections() != step.want.GetAllowRejections() ||
			(got.MaxRejectedRatio == nil) != (step.want.MaxRejectedRatio == nil) ||
			got.GetMaxRejectedRatio() != step.want.GetMaxRejectedRatio() {
			t.Errorf("%s: the row says %v, want %v", method, got, step.want)
		}
	}
}

// forgetful is a fleet that can forget every validator.
type forgetful struct {
	management.Fleet
	forgotten []string
}

func (f *forgetful) Forget(ctx context.Context, id string, audit func(context.Context) error) error {
	err := audit(ctx)
	if err == nil {
		f.forgotten = append(f.forgotten, id)
	}
	return err
}

// TestB23_ForgettingIsAudited: the row is in the trail of the first partition that takes one, before the
// validator is forgotten. Without a row, no validator is forgotten.
func TestB23_ForgettingIsAudited(t *testing.T) {
	w := newWorld(t)
	fleet := &forgetful{}
	service := management.New(fleet, nil)
	service.Open(w.store(t))
	forget := func(id string) error {
		_, err := service.ForgetValidator(t.Context(), &pb.ForgetValidatorRequest{ValidatorId: id})
		return err
	}
	spoil := func(partition int) {
		if err := w.redis.Set(t.Context(), record.KeysOf(partition).Audit, "not a trail", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for partition, id := range []string{"lost-0", "lost-1"} {
		if err := forget(id); err != nil {
			t.Fatal(err)
		}
		rows := w.audited(t, partition)
		if len(rows) != 1 {
			t.Fatalf("partition %d has rows %v", partition, rows)
		}
		if got := rows[0]; got.GetMethod() != "ForgetValidator" || got.GetValidatorId() != id ||
			time.Since(got.GetEventTime().AsTime()) > patience {
			t.Errorf("the row is %v", got)
		}
		// A partition that takes no row does not stop the call.
		spoil(partition)
	}
	for partition := range record.DefaultPartitions {
		spoil(partition)
	}
	err := forget("lost-2")
	wantFailure(t, err, failure{codes.Unavailable, apierr.StoreUnavailable, ""})
	if !slices.Equal(fleet.forgotten, []string{"lost-0", "lost-1"}) {
		t.Errorf("forgotten are %v", fleet.forgotten)
	}
	// The rows have moved no cursor, and later changes work as before.
	app := newApp()
	for partitionOf(app) != 1 {
		app = newApp()
	}
	if err := w.redis.Del(t.Context(), record.KeysOf(1).Audit).Err(); err != nil {
		t.Fatal(err)
	}
	w.create(t, app, "a", events)
}

// TestB23_RememberedTokensAreNamed: the row of a change names the tokens that the retention removed with it.
func TestB23_RememberedTokensAreNamed(t *testing.T) {
	w := newWorld(t)
	app := newApp()
	old := w.create(t, app, "old", events).GetToken().GetTokenId()
	w.write(t, app, func(d *record.Document) {
		d.Tokens[0].State, d.Tokens[0].RevokeMillis, d.Tokens[0].UpdateMillis = policy.Revoked, 1, 1
	})
	w.create(t, app, "new", events)
	all := w.audited(t, partitionOf(app))
	got := all[len(all)-1]
	if !slices.Equal(got.GetRememberedTokenIds(), []string{old}) || len(got.GetTokens()) != 1 ||
		got.GetAppAfter().GetRememberedDigestCount() != 1 {
		t.Errorf("the row is %v", got)
	}
}
