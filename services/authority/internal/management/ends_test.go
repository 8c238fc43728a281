package management_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/testkit/check"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/test/cluster"
)

// TestEndsThatAreDurations: the authority resolves a duration from the change on. So a repetition is the same
// request, and does not move the end.
func TestEndsThatAreDurations(t *testing.T) {
	w := newWorldWith(t, cluster.Options{})
	app, half := newApp(), durationpb.New(12*time.Hour)
	within := func(what string, end *timestamppb.Timestamp, before time.Time) {
		t.Helper()
		earliest, latest := before.Truncate(time.Millisecond).Add(12*time.Hour), time.Now().Add(12*time.Hour)
		if at := end.AsTime(); at.Before(earliest) || at.After(latest) {
			t.Errorf("%s: ends at %s, want %s to %s", what, at, earliest, latest)
		}
	}
	create := &pb.CreateTokenRequest{AppId: app, Name: "a", Scopes: []pb.Scope{events}, Ttl: half, RequestId: "create"}
	began := time.Now()
	made := check.Must(w.CreateToken(t.Context(), create))(t).GetToken()
	within("created", made.GetExpireTime(), began)
	for range 2 {
		again := check.Must(w.CreateToken(t.Context(), create))(t)
		if again.GetSecret() != "" || again.GetToken().GetTokenId() != made.GetTokenId() ||
			!again.GetToken().GetExpireTime().AsTime().Equal(made.GetExpireTime().AsTime()) {
			t.Errorf("again: %v", again)
		}
	}
	update := &pb.UpdateTokenRequest{
		AppId: app, Token: &pb.Token{TokenId: w.create(t, app, "b", events).GetToken().GetTokenId()}, Ttl: half,
		RequestId:  "update",
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"expire_time"}},
	}
	began = time.Now()
	updated := check.Must(w.UpdateToken(t.Context(), update))(t).GetToken()
	within("updated", updated.GetExpireTime(), began)
	again := check.Must(w.UpdateToken(t.Context(), update))(t)
	if !again.GetToken().GetExpireTime().AsTime().Equal(updated.GetExpireTime().AsTime()) {
		t.Errorf("again: %v", again)
	}
	trial := &pb.SetEnforcementRequest{
		AppId: app, Scopes: []pb.Scope{events}, TrialDuration: half, RequestId: "trial", AllowRejections: true,
	}
	w.create(t, app, "c", events)
	began = time.Now()
	enforced := check.Must(w.SetEnforcement(t.Context(), trial))(t).GetApp()
	within("enforced", enforced.GetTrialEndTime(), began)
	enforcedAgain := check.Must(w.SetEnforcement(t.Context(), trial))(t)
	if !enforcedAgain.GetApp().GetTrialEndTime().AsTime().Equal(enforced.GetTrialEndTime().AsTime()) {
		t.Errorf("again: %v", enforcedAgain)
	}
	at := timestamppb.New(time.Now().Add(time.Hour))
	refused := func(field string, err error) {
		t.Helper()
		wantFailure(t, err, invalid(field))
	}
	for _, bad := range []*durationpb.Duration{
		durationpb.New(-time.Second), durationpb.New(36_501 * 24 * time.Hour),
		durationpb.New(time.Microsecond),
		{Seconds: 1, Nanos: -1},
	} {
		refused("ttl", second(w.CreateToken(t.Context(), &pb.CreateTokenRequest{
			AppId: app, Name: "d", Scopes: []pb.Scope{events},
			Ttl: bad,
		})))
		refused("ttl", second(w.UpdateToken(t.Context(), &pb.UpdateTokenRequest{
			AppId: app, Token: update.GetToken(),
			UpdateMask: update.GetUpdateMask(), Ttl: bad,
		})))
		refused("trial_duration", second(w.SetEnforcement(t.Context(),
			&pb.SetEnforcementRequest{AppId: app, Scopes: []pb.Scope{events}, TrialDuration: bad})))
	}
	refused("ttl", second(w.CreateToken(t.Context(), &pb.CreateTokenRequest{
		AppId: app, Name: "d", Scopes: []pb.Scope{events},
		Ttl: half, ExpireTime: at,
	})))
	refused("ttl", second(w.UpdateToken(t.Context(), &pb.UpdateTokenRequest{
		AppId: app, Token: update.GetToken(), UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"note"}}, Ttl: half,
	})))
	refused("trial_duration", second(w.SetEnforcement(t.Context(),
		&pb.SetEnforcementRequest{AppId: app, Scopes: []pb.Scope{events}, TrialDuration: half, TrialEndTime: at})))
}
