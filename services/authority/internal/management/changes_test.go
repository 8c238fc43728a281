package management_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/testkit/check"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// change is a call of one changing method that succeeds.
type change struct {
	method  string
	request proto.Message
	// other returns the request with other content.
	other func(proto.Message)
	// ask is a question to a validator whose answer the change has changed to want.
	ask  *pb.AuthorizeRequest
	want func(response proto.Message) *pb.AuthorizeResponse
}

// changes returns a call of every changing method, each for an app of its own.
func (w *world) changes(t testing.TB) []change {
	t.Helper()
	const valid, gone = pb.Reason_REASON_TOKEN_VALID, pb.Reason_REASON_TOKEN_REVOKED
	app := func() (string, *pb.CreateTokenResponse) {
		app := newApp()
		w.create(t, app, "other", events)
		made := w.create(t, app, "a", events)
		w.enforce(t, app, events)
		return app, made
	}
	ask := func(app, secret string) *pb.AuthorizeRequest {
		return &pb.AuthorizeRequest{AppId: app, Token: secret, Scope: events}
	}
	becomes := func(answer *pb.AuthorizeResponse) func(proto.Message) *pb.AuthorizeResponse {
		return func(proto.Message) *pb.AuthorizeResponse { return answer }
	}
	var all []change

	created, _ := app()
	all = append(all, change{
		"CreateToken", &pb.CreateTokenRequest{AppId: created, Name: "new", Scopes: []pb.Scope{events}},
		func(m proto.Message) { m.(*pb.CreateTokenRequest).Name = "newer" },
		ask(created, ""), func(m proto.Message) *pb.AuthorizeResponse {
			return allow(valid, true, m.(*pb.CreateTokenResponse).GetToken().GetTokenId())
		},
	})
	updated, token := app()
	all = append(all, change{
		"UpdateToken", &pb.UpdateTokenRequest{
			AppId: updated, Token: &pb.Token{TokenId: token.GetToken().GetTokenId(), State: disabled},
			UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"state"}},
		},
		func(m proto.Message) { m.(*pb.UpdateTokenRequest).Token.State = active },
		ask(updated, token.GetSecret()), becomes(deny(pb.Reason_REASON_TOKEN_DISABLED, token.GetToken().GetTokenId())),
	})
	ended, token := app()
	all = append(all, change{
		"RevokeToken", &pb.RevokeTokenRequest{AppId: ended, TokenId: token.GetToken().GetTokenId()},
		func(m proto.Message) { m.(*pb.RevokeTokenRequest).AllowLockout = true },
		ask(ended, token.GetSecret()), becomes(deny(gone, token.GetToken().GetTokenId())),
	})
	leaked, token := app()
	all = append(all, change{
		"RevokeSecret", &pb.RevokeSecretRequest{Secret: token.GetSecret()},
		func(m proto.Message) { m.(*pb.RevokeSecretRequest).AllowLockout = true },
		ask(leaked, token.GetSecret()), becomes(deny(gone, token.GetToken().GetTokenId())),
	})
	rotated, token := app()
	all = append(all, change{
		"RotateToken", &pb.RotateTokenRequest{AppId: rotated, TokenId: token.GetToken().GetTokenId(), Overlap: noDuration},
		func(m proto.Message) { m.(*pb.RotateTokenRequest).Overlap = durationpb.New(1) },
		ask(rotated, token.GetSecret()), becomes(deny(pb.Reason_REASON_TOKEN_EXPIRED, token.GetToken().GetTokenId())),
	})
	imported, _ := app()
	legacy := foreign()
	all = append(all, change{
		"ImportTokens", &pb.ImportTokensRequest{AppId: imported, Imports: []*pb.TokenImport{
			{Name: "new", Scopes: []pb.Scope{events}, Credential: &pb.TokenImport_Secret{Secret: legacy}},
		}},
		func(m proto.Message) {
			m.(*pb.ImportTokensRequest).Imports[0].Credential = &pb.TokenImport_Secret{Secret: foreign()}
		},
		ask(imported, legacy), func(m proto.Message) *pb.AuthorizeResponse {
			return allow(valid, true, m.(*pb.ImportTokensResponse).GetTokens()[0].GetTokenId())
		},
	})
	deleted := newApp()
	w.create(t, deleted, "a")
	all = append(all, change{
		"DeleteApp", &pb.DeleteAppRequest{AppId: deleted},
		func(m proto.Message) { m.(*pb.DeleteAppRequest).Etag = "other" },
		ask(deleted, ""), becomes(allow(pb.Reason_REASON_APP_NOT_CONFIGURED, false, "")),
	})
	off := newApp()
	w.create(t, off, "a", events)
	all = append(all, change{
		"SetEnforcement", &pb.SetEnforcementRequest{AppId: off, Scopes: []pb.Scope{events}, AllowRejections: true},
		func(m proto.Message) { m.(*pb.SetEnforcementRequest).Scopes = []pb.Scope{gdpr} },
		ask(off, ""), becomes(deny(pb.Reason_REASON_TOKEN_MISSING, "")),
	})
	return all
}

// field returns a field of a message by name; empty when it has none.
func field(m proto.Message, name string) string {
	fields := m.ProtoReflect()
	f := fields.Descriptor().Fields().ByName(protoreflect.Name(name))
	if f == nil {
		return ""
	}
	return fields.Get(f).String()
}

func setField(m proto.Message, name, value string) {
	fields := m.ProtoReflect()
	fields.Set(fields.Descriptor().Fields().ByName(protoreflect.Name(name)), protoreflect.ValueOfString(value))
}

// TestChangesAreAll: the tests of changes know every changing method.
func TestChangesAreAll(t *testing.T) {
	w := newWorld(t)
	tested := map[string]bool{}
	for _, c := range w.changes(t) {
		tested[c.method] = true
	}
	methods := pb.File_countersign_v1_authority_proto.Services().ByName("AuthorityService").Methods()
	for i := range methods.Len() {
		changing := methods.Get(i).Input().Fields().ByName("request_id") != nil
		if name := string(methods.Get(i).Name()); changing != tested[name] {
			t.Errorf("%s: changing %t, tested as such %t", name, changing, tested[name])
		}
	}
}

// TestB25_ReadYourWrites: with the consistency token of a change, every validator decides on it at once.
func TestB25_ReadYourWrites(t *testing.T) {
	w := newWorld(t)
	for range 3 {
		for _, c := range w.changes(t) {
			t.Run(c.method, func(t *testing.T) {
				response := check.Must(w.invoke(t, c.method, c.request))(t)
				after := field(response, "consistency_token")
				if many, ok := response.(*pb.RevokeSecretResponse); ok {
					after = many.GetConsistencyTokens()[0]
				}
				if c.ask.GetToken() == "" && c.method == "CreateToken" {
					c.ask.Token = field(response, "secret")
				}
				w.authorize(t, after, c.ask, c.want(response))
			})
		}
	}
}

// TestB25_OtherTokens: a malformed consistency token, or one of another partition, is the caller's mistake.
func TestB25_OtherTokens(t *testing.T) {
	w := newWorld(t)
	apps := newApps(2)
	after := w.create(t, apps[0], "a").GetConsistencyToken()
	for name, request := range map[string]*pb.AuthorizeRequest{
		"other partition": {AppId: apps[1], Scope: events, MinRevision: after},
		"nonsense":        {AppId: apps[0], Scope: events, MinRevision: "nonsense"},
		"cut":             {AppId: apps[0], Scope: events, MinRevision: after[:len(after)-3]},
	} {
		for _, validator := range w.validators {
			if _, err := validator.Authorize(t.Context(), request); failureOf(err) != invalid("min_revision") {
				t.Errorf("%s: got %v", name, err)
			}
		}
	}
}

// TestRequestIDs: a repeated request changes nothing and gets the first answer, without the secret. With
// other content the id is rejected (AIP-155).
func TestRequestIDs(t *testing.T) {
	w := newWorld(t)
	for _, c := range w.changes(t) {
		t.Run(c.method, func(t *testing.T) {
			const id = "9F-a_b.c:1"
			setField(c.request, "request_id", id)
			first := check.Must(w.invoke(t, c.method, c.request))(t)
			held := w.contents(t)
			want := proto.Clone(first)
			if minted := field(first, "secret"); minted != "" {
				if !secretForm.MatchString(minted) {
					t.Error("the first answer has no secret")
				}
				setField(want, "secret", "")
			}
			for range 2 {
				if again := check.Must(w.invoke(t, c.method, c.request))(t); !proto.Equal(again, want) {
					t.Errorf("repeated: got %v, want %v", again, want)
				}
			}
			other := proto.Clone(c.request)
			c.other(other)
			again, err := w.invoke(t, c.method, other)
			if c.method == "RevokeSecret" {
				// Some apps may have refused the call as a lockout. For the others the second call is a
				// repetition.
				if err != nil || !proto.Equal(again, want) {
					t.Errorf("repeated with allow_lockout: got %v, %v, want %v", again, err, want)
				}
			} else {
				wantFailure(t, err, invalid("request_id"))
			}
			w.wantSame(t, held)

			// An id is bound to its method and app, and a failed call does not use it up.
			app := newApp()
			_, err = w.invoke(t, "DeleteApp", &pb.DeleteAppRequest{AppId: app, RequestId: id})
			wantFailure(t, err, noApp)
			check.Must(w.CreateToken(t.Context(), &pb.CreateTokenRequest{AppId: app, Name: "a", RequestId: id}))(t)
			check.Must(w.DeleteApp(t.Context(), &pb.DeleteAppRequest{AppId: app, RequestId: id}))(t)
		})
	}
}

// TestRequestIDsOfNothing: a call that changes nothing keeps its answer too, also for an unknown app.
func TestRequestIDsOfNothing(t *testing.T) {
	w := newWorld(t)
	unknown, known := newApp(), newApp()
	made := w.create(t, known, "a", events)
	id := made.GetToken().GetTokenId()
	check.Must(w.RevokeToken(t.Context(), &pb.RevokeTokenRequest{
		AppId:   known,
		TokenId: w.create(t, known, "b").GetToken().GetTokenId(),
	}))(t)
	for name, request := range map[string]proto.Message{
		"SetEnforcement of an app never heard of": &pb.SetEnforcementRequest{AppId: unknown, RequestId: "r1"},
		"SetEnforcement": &pb.SetEnforcementRequest{AppId: known, RequestId: "r1"},
		"UpdateToken": &pb.UpdateTokenRequest{
			AppId: known, RequestId: "r1", Token: &pb.Token{TokenId: id, Name: "a"},
			UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"name"}},
		},
		"RevokeToken": &pb.RevokeTokenRequest{AppId: known, RequestId: "r1", TokenId: w.list(t, known, true)[1].GetTokenId()},
	} {
		t.Run(name, func(t *testing.T) {
			method, _, _ := strings.Cut(name, " ")
			first := check.Must(w.invoke(t, method, request))(t)
			check.Must(w.update(t.Context(), known, &pb.Token{TokenId: id, Name: "renamed"}, "name"))(t)
			if again := check.Must(w.invoke(t, method, request))(t); !proto.Equal(again, first) {
				t.Errorf("repeated: got %v, want %v", again, first)
			}
			if got := w.get(t, known, id).GetName(); got != "renamed" {
				t.Errorf("the repetition was carried out: the token is named %q", got)
			}
			check.Must(w.update(t.Context(), known, &pb.Token{TokenId: id, Name: "a"}, "name"))(t)
		})
	}
	if _, err := w.GetApp(t.Context(), &pb.GetAppRequest{AppId: unknown}); failureOf(err) != noApp {
		t.Errorf("nothing made an app: %v", err)
	}
}

// TestRequestIDsAtOnce: of many concurrent copies of a request, one makes a token, and one gets its secret.
func TestRequestIDsAtOnce(t *testing.T) {
	w := newWorld(t)
	const copies = 10
	for round := range 5 {
		app := newApp()
		old := w.create(t, app, "old").GetToken().GetTokenId()
		for _, request := range []proto.Message{
			&pb.CreateTokenRequest{AppId: app, Name: "new", RequestId: "r1"},
			&pb.RotateTokenRequest{AppId: app, TokenId: old, RequestId: "r2"},
		} {
			method := "CreateToken"
			if _, rotates := request.(*pb.RotateTokenRequest); rotates {
				method = "RotateToken"
			}
			before := len(w.list(t, app, true))
			answers := make([]proto.Message, copies)
			var group sync.WaitGroup
			for i := range copies {
				group.Go(func() {
					var err error
					if answers[i], err = w.invoke(t, method, request); err != nil {
						t.Error(err)
					}
				})
			}
			group.Wait()
			secrets := 0
			for _, answer := range answers {
				if field(answer, "secret") != "" {
					secrets++
				}
				if field(answer, "consistency_token") != field(answers[0], "consistency_token") {
					t.Errorf("round %d, %s: two answers: %v and %v", round, method, answer, answers[0])
				}
			}
			if after := len(w.list(t, app, true)); after != before+1 || secrets != 1 {
				t.Errorf("round %d, %s: %d tokens were made and %d secrets answered", round, method, after-before, secrets)
			}
		}
	}
}

// TestB26_RolesOverGRPC: a caller without a key may call nothing, a viewer only methods that read.
func TestB26_RolesOverGRPC(t *testing.T) {
	w := newWorld(t)
	read := []string{
		"GetToken", "ListTokens", "GetApp", "ListApps", "GetReadiness", "ListReadiness", "WaitForPropagation",
		"ListValidators", "ListAuditEvents",
	}
	held := w.contents(t)
	anyone, viewer := *w, *w
	anyone.conn, viewer.conn = check.Dial(t, w.Authority), check.Dial(t, w.Authority, withKey(w.ViewerKey.Reveal()))
	for _, method := range pb.AuthorityService_ServiceDesc.Methods {
		rows := badRequests[method.MethodName](fixture{
			off: newApp(), offToken: unknownToken, onSecret: secret.Mint().Reveal(),
			offSecret: foreign(),
		})
		rows = append(rows, bad{request: &pb.ListValidatorsRequest{}}) // of which there is no bad one
		if _, err := anyone.invoke(t, method.MethodName, rows[0].request); status.Code(err) != codes.Unauthenticated ||
			apierr.ReasonOf(err) != "NO_IDENTITY" {
			t.Errorf("%s without a key: %v", method.MethodName, err)
		}
		_, err := viewer.invoke(t, method.MethodName, rows[0].request)
		if denied := status.Code(err) == codes.PermissionDenied; denied == slices.Contains(read, method.MethodName) {
			t.Errorf("%s as viewer: %v", method.MethodName, err)
		}
	}
	w.wantSame(t, held)
}

// TestB02_SecretInAnyField: an error repeats no secret, whatever field it was put into by mistake.
func TestB02_SecretInAnyField(t *testing.T) {
	w := newWorld(t)
	for _, c := range w.changes(t) {
		t.Run(c.method, func(t *testing.T) {
			var fields int
			walk(c.request.ProtoReflect(), func(string, func(string)) { fields++ })
			for n := range fields {
				request := proto.Clone(c.request)
				at, mistaken := 0, ""
				walk(request.ProtoReflect(), func(_ string, replace func(string)) {
					if at == n {
						mistaken = secretOf(t, w)
						replace(mistaken)
					}
					at++
				})
				if _, err := w.invoke(t, c.method, request); err != nil {
					checkNoSecrets(t, err, request)
				}
			}
		})
	}
	for method, request := range map[string]proto.Message{
		"GetToken":           &pb.GetTokenRequest{AppId: newApp(), TokenId: secretOf(t, w)},
		"GetApp":             &pb.GetAppRequest{AppId: secretOf(t, w)},
		"ListTokens":         &pb.ListTokensRequest{AppId: newApp(), PageToken: secretOf(t, w)},
		"ListApps":           &pb.ListAppsRequest{PageToken: secretOf(t, w)},
		"WaitForPropagation": &pb.WaitForPropagationRequest{ConsistencyToken: secretOf(t, w)},
	} {
		_, err := w.invoke(t, method, request)
		if err == nil {
			t.Errorf("%s takes a secret for what it wants", method)
		}
		checkNoSecrets(t, err, request)
	}
	for _, validator := range w.validators {
		request := &pb.AuthorizeRequest{AppId: "app", Scope: events, MinRevision: secretOf(t, w)}
		_, err := validator.Authorize(context.Background(), request)
		checkNoSecrets(t, err, request)
		request = &pb.AuthorizeRequest{AppId: fmt.Sprint(secretOf(t, w), "!"), Token: secretOf(t, w), Scope: events}
		_, err = validator.Authorize(context.Background(), request)
		checkNoSecrets(t, err, request)
	}
}

// secretOf makes a token and returns its secret.
func secretOf(t testing.TB, w *world) string { return w.create(t, newApp(), "a").GetSecret() }
