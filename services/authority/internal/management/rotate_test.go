package management_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/countersign/countersign/pkg/testkit/check"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// TestB09_Rotate: during the overlap both secrets work, then the old one ends by itself.
func TestB09_Rotate(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		name    string
		overlap *durationpb.Duration
		want    time.Duration
	}{
		{"default", nil, 7 * 24 * time.Hour},
		{"an hour", durationpb.New(time.Hour), time.Hour},
		{"longest", durationpb.New(90 * 24 * time.Hour), 90 * 24 * time.Hour},
		{"none", noDuration, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			app := newApp()
			made := w.create(t, app, "a", events)
			id := made.GetToken().GetTokenId()
			w.enforce(t, app, events)
			called := time.Now()
			rotated := check.Must(w.RotateToken(t.Context(), &pb.RotateTokenRequest{AppId: app, TokenId: id, Overlap: tt.overlap}))(t)
			old, next := rotated.GetPrevious(), rotated.GetToken()
			if old.GetSuccessorId() != next.GetTokenId() || next.GetPredecessorId() != id || old.GetTokenId() != id {
				t.Errorf("they do not name each other: %v, %v", old, next)
			}
			if next.GetName() != "a" || !sameScopes(next.GetScopes(), events) || next.GetExpireTime() != nil ||
				next.GetCreatedBy() != "admin" {
				t.Errorf("the successor is %v", next)
			}
			if !secretForm.MatchString(rotated.GetSecret()) || rotated.GetSecret() == made.GetSecret() ||
				next.GetHint() != rotated.GetSecret()[3:9] {
				t.Error("the successor's secret is not a new one")
			}
			end := old.GetExpireTime().AsTime()
			if early := called.Add(tt.want - time.Millisecond); end.Before(early) || end.After(time.Now().Add(tt.want)) {
				t.Errorf("the old one ends at %v, want %v after the call", end, tt.want)
			}
			want := allow(pb.Reason_REASON_TOKEN_VALID, true, id)
			if tt.want == 0 {
				want = deny(pb.Reason_REASON_TOKEN_EXPIRED, id)
			}
			after := rotated.GetConsistencyToken()
			w.authorize(t, after, &pb.AuthorizeRequest{AppId: app, Token: made.GetSecret(), Scope: events}, want)
			w.authorize(t, after, &pb.AuthorizeRequest{AppId: app, Token: rotated.GetSecret(), Scope: events},
				allow(pb.Reason_REASON_TOKEN_VALID, true, next.GetTokenId()))

			if tt.want > 0 {
				_, err := w.RotateToken(t.Context(), &pb.RotateTokenRequest{AppId: app, TokenId: id})
				wantFailure(t, err, precondition("ALREADY_ROTATED", "apps/"+app+"/tokens/"+id))
			}
			// B01: another token may take the predecessor's name, but not the successor's.
			_, err := w.CreateToken(t.Context(), &pb.CreateTokenRequest{AppId: app, Name: "a", Scopes: []pb.Scope{events}})
			wantFailure(t, err, nameTaken)
		})
	}
}

// TestB09_OverlapEnds: the overlap ends by itself on every validator.
func TestB09_OverlapEnds(t *testing.T) {
	w := newWorld(t)
	app := newApp()
	made := w.create(t, app, "a", events)
	w.enforce(t, app, events)
	rotated := check.Must(w.RotateToken(t.Context(), &pb.RotateTokenRequest{
		AppId: app, TokenId: made.GetToken().GetTokenId(), Overlap: durationpb.New(500 * time.Millisecond),
	}))(t)
	end := rotated.GetPrevious().GetExpireTime().AsTime()
	request := &pb.AuthorizeRequest{
		AppId: app, Token: made.GetSecret(), Scope: events,
		MinRevision: rotated.GetConsistencyToken(),
	}
	for i, validator := range w.validators {
		watch(t, func() bool {
			asked := time.Now()
			answer := check.Must(validator.Authorize(t.Context(), request))(t)
			switch answer.GetReason() {
			case pb.Reason_REASON_TOKEN_VALID:
				if asked.After(end) {
					t.Errorf("validator %d accepts the old token %v after its end", i, asked.Sub(end))
				}
				return false
			case pb.Reason_REASON_TOKEN_EXPIRED:
				if now := time.Now(); now.Before(end) || answer.GetDecision() != pb.Decision_DECISION_DENY {
					t.Errorf("validator %d at %v, before the end: %v", i, now, answer)
				}
				return true
			}
			t.Fatalf("validator %d: %v", i, answer)
			return true
		})
	}
}

// watch calls a function until it returns true.
func watch(t *testing.T, call func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !call(); {
		if time.Now().After(deadline) {
			t.Fatal("it did not come")
		}
	}
}
