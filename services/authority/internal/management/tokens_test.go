package management_test

import (
	"fmt"
	"regexp"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/testkit/check"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// secretForm is the pattern for secret scanners.
var secretForm = regexp.MustCompile(`^cs_[0-9A-Za-z]{49}$`)

func TestB01_Create(t *testing.T) {
	w := newWorld(t)
	app := newApp()
	expiry := in(time.Hour)
	expiry.Nanos = expiry.Nanos / 1e6 * 1e6
	started := time.Now().Add(-time.Millisecond)
	made := check.Must(w.CreateToken(t.Context(), &pb.CreateTokenRequest{
		AppId: app, Name: " \tcheckout äöü ", Scopes: []pb.Scope{sessions, events}, ExpireTime: expiry, Note: " of the shop\n",
	}))(t)
	token := made.GetToken()
	if token.GetName() != "checkout äöü" || token.GetNote() != " of the shop\n" || token.GetState() != active ||
		token.GetCreatedBy() != "admin" ||
		!sameScopes(token.GetScopes(), events, sessions) || !proto.Equal(token.GetExpireTime(), expiry) || token.GetImported() ||
		token.GetPredecessorId() != "" || token.GetSuccessorId() != "" || token.GetRevokeTime() != nil || token.GetEtag() == "" {
		t.Errorf("got %v", token)
	}
	if at := token.GetCreateTime().AsTime(); at.Before(started) || at.After(time.Now()) ||
		!proto.Equal(token.GetCreateTime(), token.GetUpdateTime()) {
		t.Errorf("made at %v, changed at %v", at, token.GetUpdateTime().AsTime())
	}
	// B03 and B06.
	if !secretForm.MatchString(made.GetSecret()) || !secret.WellFormed(made.GetSecret()) ||
		token.GetHint() != made.GetSecret()[3:9] {
		t.Errorf("the secret has %d characters, the hint is %q", len(made.GetSecret()), token.GetHint())
	}
	if got := w.get(t, app, token.GetTokenId()); !proto.Equal(got, token) {
		t.Errorf("read again it is %v, want %v", got, token)
	}
	w.authorize(t, made.GetConsistencyToken(), &pb.AuthorizeRequest{AppId: app, Token: made.GetSecret(), Scope: sessions},
		allow(pb.Reason_REASON_TOKEN_VALID, false, token.GetTokenId()))
	if longest := check.Must(w.CreateToken(t.Context(), &pb.CreateTokenRequest{
		AppId: app, Name: long(100),
		Note: long(1000),
	}))(t); longest.GetToken().GetName() != long(100) {
		t.Error("the longest name was changed")
	}
}

func TestB01_RotationAtTheLimit(t *testing.T) {
	w := newWorld(t)
	f := w.fixture(t)
	rotated := check.Must(w.RotateToken(t.Context(), &pb.RotateTokenRequest{
		AppId: f.full, TokenId: f.fullToken,
		Overlap: noDuration,
	}))(t)
	if rotated.GetPrevious().GetState() != expired || w.app(t, f.full).GetActiveTokenCount() != 1000 {
		t.Errorf("got %v, %v", rotated.GetPrevious(), w.app(t, f.full))
	}
}

// TestB05_Unscoped: an unscoped token authenticates every scope, also after enforcement is switched on, and
// its successor does too.
func TestB05_Unscoped(t *testing.T) {
	w := newWorld(t)
	app := newApp()
	made := w.create(t, app, "unscoped")
	id := made.GetToken().GetTokenId()
	every := []pb.Scope{events, sessions, revenue, gdpr}
	verify := func(after, secret, id string, enforced bool) {
		t.Helper()
		for _, scope := range every {
			w.authorize(t, after, &pb.AuthorizeRequest{AppId: app, Token: secret, Scope: scope},
				allow(pb.Reason_REASON_TOKEN_VALID_UNSCOPED, enforced, id))
		}
	}
	verify(made.GetConsistencyToken(), made.GetSecret(), id, false)
	verify(w.enforce(t, app, every...).GetConsistencyToken(), made.GetSecret(), id, true)
	next := check.Must(w.RotateToken(t.Context(), &pb.RotateTokenRequest{AppId: app, TokenId: id}))(t)
	verify(next.GetConsistencyToken(), made.GetSecret(), id, true)
	verify(next.GetConsistencyToken(), next.GetSecret(), next.GetToken().GetTokenId(), true)

	renamed := check.Must(w.update(t.Context(), app, &pb.Token{TokenId: id, Name: "renamed"}, "name"))(t)
	if renamed.GetToken().GetName() != "renamed" || len(renamed.GetToken().GetScopes()) != 0 {
		t.Errorf("got %v", renamed.GetToken())
	}
	scoped := check.Must(w.update(t.Context(), app, &pb.Token{TokenId: id, Scopes: []pb.Scope{events}}, "scopes"))(t)
	w.authorize(t, scoped.GetConsistencyToken(), &pb.AuthorizeRequest{AppId: app, Token: made.GetSecret(), Scope: sessions},
		deny(pb.Reason_REASON_SCOPE_NOT_GRANTED, id))
	_, err := w.update(t.Context(), app, &pb.Token{TokenId: id}, "scopes")
	wantFailure(t, err, invalid("token.scopes"))
	w.enforce(t, app)
	_, err = w.update(t.Context(), app, &pb.Token{TokenId: id}, "scopes")
	wantFailure(t, err, invalid("token.scopes"))
}

// TestB07_Masks: an update changes the fields in its mask, whatever other fields its token has.
func TestB07_Masks(t *testing.T) {
	w := newWorld(t)
	noise := func(id string) *pb.Token {
		return &pb.Token{
			TokenId: id, Name: "b", Scopes: []pb.Scope{revenue}, State: disabled, ExpireTime: in(time.Hour), Note: "noted",
			Hint: "noise", CreatedBy: "noise", CreateTime: in(0), RevokeTime: in(0), PredecessorId: "noise", SuccessorId: "noise",
			Imported: true,
		}
	}
	for _, tt := range []struct {
		mask []string
		want func(*pb.Token)
	}{
		{[]string{"name"}, func(t *pb.Token) { t.Name = "b" }},
		{[]string{"scopes"}, func(t *pb.Token) { t.Scopes = []pb.Scope{revenue} }},
		{[]string{"note"}, func(t *pb.Token) { t.Note = "noted" }},
		{[]string{"state"}, func(t *pb.Token) { t.State = disabled }},
		{[]string{"name", "note", "state", "scopes", "name"}, func(t *pb.Token) {
			t.Name, t.Note, t.State, t.Scopes = "b", "noted", disabled, []pb.Scope{revenue}
		}},
	} {
		t.Run(fmt.Sprint(tt.mask), func(t *testing.T) {
			app := newApp()
			created := w.create(t, app, "a", events)
			got := check.Must(w.update(t.Context(), app, noise(created.GetToken().GetTokenId()), tt.mask...))(t).GetToken()
			want := proto.CloneOf(created.GetToken())
			tt.want(want)
			want.Etag, want.UpdateTime = got.GetEtag(), got.GetUpdateTime()
			if !proto.Equal(got, want) || got.GetEtag() == created.GetToken().GetEtag() {
				t.Errorf("got %v\nwant %v", got, want)
			}
		})
	}
}

func TestB07_Etag(t *testing.T) {
	w := newWorld(t)
	app := newApp()
	first := w.create(t, app, "a", events).GetToken()
	id := first.GetTokenId()
	second := check.Must(w.update(t.Context(), app, &pb.Token{TokenId: id, Name: "b", Etag: first.GetEtag()},
		"name"))(t).GetToken()
	if second.GetEtag() == first.GetEtag() {
		t.Error("the etag is the same after a change")
	}
	_, err := w.update(t.Context(), app, &pb.Token{TokenId: id, Name: "c", Etag: first.GetEtag()}, "name")
	wantFailure(t, err, staleEtag)
	if got := w.get(t, app, id); !proto.Equal(got, second) {
		t.Errorf("a stale etag changed the token to %v", got)
	}
	// A change of another token, or of the app, keeps the etag. So does an update that changes nothing.
	w.create(t, app, "z", events)
	w.enforce(t, app, events)
	same := check.Must(w.update(t.Context(), app, &pb.Token{TokenId: id, Name: "b", Etag: second.GetEtag()},
		"name"))(t).GetToken()
	if !proto.Equal(same, second) {
		t.Errorf("nothing to change: got %v, want %v", same, second)
	}
	// For a revoked token, a stale etag is reported first.
	gone := check.Must(w.RevokeToken(t.Context(), &pb.RevokeTokenRequest{AppId: app, TokenId: id}))(t).GetToken()
	_, err = w.update(t.Context(), app, &pb.Token{TokenId: id, Name: "c", Etag: second.GetEtag()}, "name")
	wantFailure(t, err, staleEtag)
	_, err = w.update(t.Context(), app, &pb.Token{TokenId: id, Name: "c", Etag: gone.GetEtag()}, "name")
	wantFailure(t, err, precondition("TOKEN_REVOKED", "apps/"+app+"/tokens/"+id))

	// The app has an etag of its own.
	etag := w.app(t, app).GetEtag()
	w.create(t, app, "y", events)
	_, err = w.SetEnforcement(t.Context(), &pb.SetEnforcementRequest{AppId: app, Etag: etag})
	wantFailure(t, err, staleEtag)
	check.Must(w.SetEnforcement(t.Context(), &pb.SetEnforcementRequest{AppId: app, Etag: w.app(t, app).GetEtag()}))(t)
	_, err = w.DeleteApp(t.Context(), &pb.DeleteAppRequest{AppId: app, Etag: etag})
	wantFailure(t, err, staleEtag)
	check.Must(w.DeleteApp(t.Context(), &pb.DeleteAppRequest{AppId: app, Etag: w.app(t, app).GetEtag()}))(t)
}

// TestB08_States: for validators, only ACTIVE tokens authenticate.
func TestB08_States(t *testing.T) {
	w := newWorld(t)
	app := newApp()
	w.create(t, app, "other", events)
	made := w.create(t, app, "a", events)
	id := made.GetToken().GetTokenId()
	w.enforce(t, app, events)
	request := &pb.AuthorizeRequest{AppId: app, Token: made.GetSecret(), Scope: events}
	set := func(token *pb.Token, mask string, state pb.TokenState, want *pb.AuthorizeResponse) {
		t.Helper()
		token.TokenId = id
		done := check.Must(w.update(t.Context(), app, token, mask))(t)
		if done.GetToken().GetState() != state {
			t.Errorf("the token is %v, want %s", done.GetToken(), state)
		}
		w.authorize(t, done.GetConsistencyToken(), request, want)
	}
	valid := allow(pb.Reason_REASON_TOKEN_VALID, true, id)
	set(&pb.Token{State: disabled}, "state", disabled, deny(pb.Reason_REASON_TOKEN_DISABLED, id))
	set(&pb.Token{State: active}, "state", active, valid)
	set(&pb.Token{ExpireTime: in(time.Hour)}, "expire_time", active, valid)
	set(&pb.Token{ExpireTime: in(-time.Hour)}, "expire_time", expired, deny(pb.Reason_REASON_TOKEN_EXPIRED, id))
	set(&pb.Token{}, "expire_time", active, valid)

	done := check.Must(w.RevokeToken(t.Context(), &pb.RevokeTokenRequest{AppId: app, TokenId: id}))(t)
	if token := done.GetToken(); token.GetState() != revoked || token.GetRevokeTime() == nil ||
		!proto.Equal(token.GetRevokeTime(), token.GetUpdateTime()) {
		t.Errorf("got %v", token)
	}
	gone := deny(pb.Reason_REASON_TOKEN_REVOKED, id)
	w.authorize(t, done.GetConsistencyToken(), request, gone)

	// A second call succeeds, changes nothing, and returns a position at which the token was revoked.
	held := w.contents(t)
	again := check.Must(w.RevokeToken(t.Context(), &pb.RevokeTokenRequest{AppId: app, TokenId: id}))(t)
	if !proto.Equal(again.GetToken(), done.GetToken()) || again.GetConsistencyToken() == "" {
		t.Errorf("got %v", again)
	}
	w.wantSame(t, held)
	w.authorize(t, again.GetConsistencyToken(), request, gone)
	_, err := w.ImportTokens(t.Context(), &pb.ImportTokensRequest{AppId: app, Imports: []*pb.TokenImport{
		{Name: "again", Scopes: []pb.Scope{events}, Credential: &pb.TokenImport_Secret{Secret: made.GetSecret()}},
	}})
	wantFailure(t, err, secretTaken)
}

// TestB06_ExpiredLongAgo: a token that an update expires in the past is in the answer, and in lists from then
// on.
func TestB06_ExpiredLongAgo(t *testing.T) {
	w := newWorld(t)
	app := newApp()
	id := w.create(t, app, "a", events).GetToken().GetTokenId()
	long := &pb.Token{TokenId: id, ExpireTime: in(-400 * 24 * time.Hour)}
	done := check.Must(w.update(t.Context(), app, long, "expire_time"))(t)
	if done.GetToken().GetState() != expired {
		t.Errorf("got %v", done.GetToken())
	}
	w.create(t, app, "b", events)
	if got := w.list(t, app, true); len(got) != 2 || !proto.Equal(got[0], done.GetToken()) {
		t.Errorf("listed are %v", got)
	}
}

// TestB16_AllowLockout: allow_lockout permits a change that would be refused as a lockout.
func TestB16_AllowLockout(t *testing.T) {
	w := newWorld(t)
	for name, call := range map[string]func(app string, token *pb.Token) (string, error){
		"revoke": func(app string, token *pb.Token) (string, error) {
			done, err := w.RevokeToken(t.Context(), &pb.RevokeTokenRequest{
				AppId: app, TokenId: token.GetTokenId(),
				AllowLockout: true,
			})
			return done.GetConsistencyToken(), err
		},
		"disable": func(app string, token *pb.Token) (string, error) {
			token.State = disabled
			done, err := w.UpdateToken(t.Context(), &pb.UpdateTokenRequest{
				AppId: app, Token: token, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"state"}}, AllowLockout: true,
			})
			return done.GetConsistencyToken(), err
		},
	} {
		t.Run(name, func(t *testing.T) {
			app := newApp()
			made := w.create(t, app, "a", events)
			w.enforce(t, app, events)
			done := check.Must(call(app, made.GetToken()))(t)
			for i, validator := range w.validators {
				answer, err := validator.Authorize(t.Context(), &pb.AuthorizeRequest{
					AppId: app, Token: made.GetSecret(), Scope: events,
					MinRevision: done,
				})
				if err != nil || answer.GetDecision() != pb.Decision_DECISION_DENY {
					t.Errorf("validator %d: %v, %v", i, answer, err)
				}
			}
		})
	}
}
