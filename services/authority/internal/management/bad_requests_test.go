package management_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/secret"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
)

var (
	notServed   = failure{codes.Unimplemented, "NOT_SERVED", ""}
	noToken     = failure{codes.NotFound, "TOKEN_NOT_FOUND", ""}
	noApp       = failure{codes.NotFound, "APP_NOT_FOUND", ""}
	noSecret    = failure{codes.NotFound, "SECRET_NOT_FOUND", ""}
	nameTaken   = failure{codes.AlreadyExists, "NAME_TAKEN", ""}
	secretTaken = failure{codes.AlreadyExists, "SECRET_TAKEN", ""}
	tooMany     = failure{codes.ResourceExhausted, "TOO_MANY_TOKENS", ""}
	staleEtag   = failure{codes.Aborted, "STALE_ETAG", ""}
)

// badRequests has, for every method, the requests that must fail and how.
var badRequests = map[string]func(f fixture) []bad{
	"CreateToken": func(f fixture) []bad {
		rows := common(&pb.CreateTokenRequest{AppId: f.off, Name: "new"})
		badTokenFields("", func(name, field string, change func(*pb.Token)) {
			token := &pb.Token{Name: "new"}
			change(token)
			rows = append(rows, bad{name, &pb.CreateTokenRequest{
				AppId: f.off, Name: token.GetName(), Note: token.GetNote(), Scopes: token.GetScopes(), ExpireTime: token.GetExpireTime(),
			}, invalid(field)})
		})
		return append(rows,
			bad{
				"expiry in the past", &pb.CreateTokenRequest{AppId: f.off, Name: "new", ExpireTime: in(-time.Second)},
				invalid("expire_time"),
			},
			bad{"B04 no scopes with enforcement", &pb.CreateTokenRequest{AppId: f.on, Name: "new"}, invalid("scopes")},
			bad{"B01 name taken", &pb.CreateTokenRequest{AppId: f.off, Name: " a "}, nameTaken},
			bad{"B01 name of a disabled one", &pb.CreateTokenRequest{AppId: f.off, Name: "dis"}, nameTaken},
			bad{"B01 too many", &pb.CreateTokenRequest{AppId: f.full, Name: "new"}, tooMany},
		)
	},
	"GetToken": func(f fixture) []bad {
		return append(common(&pb.GetTokenRequest{AppId: f.off, TokenId: f.offToken}),
			bad{"app never heard of", &pb.GetTokenRequest{AppId: newApp(), TokenId: f.offToken}, noToken},
			bad{"of another app", &pb.GetTokenRequest{AppId: f.on, TokenId: f.offToken}, noToken},
		)
	},
	"ListTokens": func(f fixture) []bad {
		return common(&pb.ListTokensRequest{AppId: f.off})
	},
	"UpdateToken": func(f fixture) []bad {
		mask := func(paths ...string) *fieldmaskpb.FieldMask { return &fieldmaskpb.FieldMask{Paths: paths} }
		all := mask("name", "scopes", "state", "expire_time", "note")
		good := func() *pb.Token { return &pb.Token{TokenId: f.offToken, Name: "new", State: active} }
		rows := common(&pb.UpdateTokenRequest{AppId: f.off, Token: good(), UpdateMask: all})
		row := func(name string, want failure, change func(*pb.UpdateTokenRequest)) {
			r := &pb.UpdateTokenRequest{AppId: f.off, Token: good(), UpdateMask: all}
			change(r)
			rows = append(rows, bad{name, r, want})
		}
		badTokenFields("token.", func(name, field string, change func(*pb.Token)) {
			row(name, invalid(field), func(r *pb.UpdateTokenRequest) { change(r.Token) })
		})
		row("no token", invalid("token.token_id"), func(r *pb.UpdateTokenRequest) { r.Token = nil })
		for _, id := range []string{"", "tok", secret.Mint().Reveal()} {
			row("token id "+id[:min(3, len(id))], invalid("token.token_id"), func(r *pb.UpdateTokenRequest) { r.Token.TokenId = id })
		}
		row("unknown token", noToken, func(r *pb.UpdateTokenRequest) { r.Token.TokenId = unknownToken })
		row("app never heard of", noToken, func(r *pb.UpdateTokenRequest) { r.AppId = newApp() })
		row("no mask", invalid("update_mask"), func(r *pb.UpdateTokenRequest) { r.UpdateMask = nil })
		row("empty mask", invalid("update_mask"), func(r *pb.UpdateTokenRequest) { r.UpdateMask = mask() })
		for _, path := range []string{
			"*", "", "Name", "name.x", "token.name", "token_id", "etag", "hint", "create_time", "revoke_time", "imported",
			"successor_id", "secret",
		} {
			row("mask "+path, invalid("update_mask"), func(r *pb.UpdateTokenRequest) { r.UpdateMask = mask("name", path) })
		}
		for _, state := range []pb.TokenState{0, revoked, expired, 99, -1} {
			row("state "+state.String(), invalid("token.state"), func(r *pb.UpdateTokenRequest) { r.Token.State = state })
		}
		row("etag over-long", invalid("token.etag"), func(r *pb.UpdateTokenRequest) { r.Token.Etag = strings.Repeat("e", 65) })
		row("B07 etag stale", staleEtag, func(r *pb.UpdateTokenRequest) { r.Token.Etag = "stale" })
		row("B01 name taken", nameTaken, func(r *pb.UpdateTokenRequest) { r.Token.Name = "dis" })
		row("B08 revoked", precondition("TOKEN_REVOKED", "apps/"+f.off+"/tokens/"+f.offRevoked),
			func(r *pb.UpdateTokenRequest) { r.Token.TokenId = f.offRevoked })
		row("B05 unscoped again", invalid("token.scopes"), func(r *pb.UpdateTokenRequest) {
			r.Token.TokenId,
				r.UpdateMask = f.offDisabled, mask("scopes")
		})
		row("B04 no scopes with enforcement", invalid("token.scopes"), func(r *pb.UpdateTokenRequest) {
			r.AppId, r.Token.TokenId, r.UpdateMask = f.on, f.onToken, mask("scopes")
		})
		for _, tt := range []struct {
			name, path string
			change     func(*pb.Token)
		}{
			{"disable", "state", func(t *pb.Token) { t.State = disabled }},
			{"narrow", "scopes", func(t *pb.Token) { t.Scopes = []pb.Scope{sessions} }},
			{"expire", "expire_time", func(t *pb.Token) { t.ExpireTime = in(-time.Hour) }},
			{"expire later", "expire_time", func(t *pb.Token) { t.ExpireTime = in(time.Hour) }},
		} {
			row("B16 "+tt.name+" the last", precondition("LOCKOUT", "apps/"+f.on), func(r *pb.UpdateTokenRequest) {
				r.AppId, r.Token.TokenId, r.UpdateMask = f.on, f.onToken, mask(tt.path)
				tt.change(r.Token)
			})
		}
		return rows
	},
	"RevokeToken": func(f fixture) []bad {
		return append(common(&pb.RevokeTokenRequest{AppId: f.off, TokenId: f.offToken}),
			bad{"app never heard of", &pb.RevokeTokenRequest{AppId: newApp(), TokenId: f.offToken}, noToken},
			bad{"B16 the last", &pb.RevokeTokenRequest{AppId: f.on, TokenId: f.onToken}, precondition("LOCKOUT", "apps/"+f.on)},
			bad{"unknown, dry", &pb.RevokeTokenRequest{AppId: f.off, TokenId: unknownToken, ValidateOnly: true}, noToken},
		)
	},
	"RevokeSecret": func(f fixture) []bad {
		return append(common(&pb.RevokeSecretRequest{Secret: f.onSecret, AllowLockout: true}),
			bad{"no secret", &pb.RevokeSecretRequest{}, invalid("secret")},
			bad{"only space", &pb.RevokeSecretRequest{Secret: " \n\t "}, invalid("secret")},
			bad{"over-long", &pb.RevokeSecretRequest{Secret: strings.Repeat("s", 4097)}, invalid("secret")},
			bad{"longest", &pb.RevokeSecretRequest{Secret: strings.Repeat("s", 4096)}, noSecret},
			bad{"nobody's", &pb.RevokeSecretRequest{Secret: secret.Mint().Reveal()}, noSecret},
			bad{"a part of one", &pb.RevokeSecretRequest{Secret: f.onSecret[:51]}, noSecret},
			bad{"B16 the last", &pb.RevokeSecretRequest{Secret: f.onSecret}, precondition("LOCKOUT", "apps/"+f.on)},
		)
	},
	"RotateToken": func(f fixture) []bad {
		rows := common(&pb.RotateTokenRequest{AppId: f.off, TokenId: f.offToken})
		for name, overlap := range map[string]*durationpb.Duration{
			"negative": durationpb.New(-1), "over 90 days": durationpb.New(90*24*time.Hour + 1),
			"no duration":               {Seconds: 1, Nanos: -1},
			"nanoseconds over a second": {Nanos: 1_000_000_000}, "longer than all": {Seconds: math.MaxInt64},
		} {
			rows = append(rows, bad{
				"overlap " + name, &pb.RotateTokenRequest{AppId: f.off, TokenId: f.offToken, Overlap: overlap},
				invalid("overlap"),
			})
		}
		for name, unused := range map[string]*durationpb.Duration{
			"none at all": {}, "under an hour": {Seconds: 3599}, "over 35 days": durationpb.New(35*24*time.Hour + 1),
			"nanoseconds": {Seconds: 3600, Nanos: 1}, "no duration": {Seconds: 3600, Nanos: -1},
		} {
			rows = append(rows, bad{
				"until unused, " + name, &pb.RotateTokenRequest{AppId: f.off, TokenId: f.offToken, UntilUnused: unused},
				invalid("until_unused"),
			})
		}
		subject := "apps/" + f.off + "/tokens/"
		return append(rows,
			bad{"app never heard of", &pb.RotateTokenRequest{AppId: newApp(), TokenId: f.offToken}, noToken},
			bad{
				"revoked", &pb.RotateTokenRequest{AppId: f.off, TokenId: f.offRevoked},
				precondition("TOKEN_NOT_ACTIVE", subject+f.offRevoked),
			},
			bad{
				"disabled", &pb.RotateTokenRequest{AppId: f.off, TokenId: f.offDisabled},
				precondition("TOKEN_NOT_ACTIVE", subject+f.offDisabled),
			},
			bad{"B01 too many", &pb.RotateTokenRequest{AppId: f.full, TokenId: f.fullToken}, tooMany},
		)
	},
	"ImportTokens": func(f fixture) []bad {
		strong := func() *pb.TokenImport {
			return &pb.TokenImport{Name: "new", Credential: &pb.TokenImport_Secret{Secret: foreign()}}
		}
		rows := common(&pb.ImportTokensRequest{AppId: f.off, Imports: []*pb.TokenImport{strong()}})
		row := func(app, name string, want failure, change func(*pb.TokenImport)) {
			first, second := strong(), strong()
			first.Name = "first"
			if app == f.on {
				first.Scopes, second.Scopes = []pb.Scope{events}, []pb.Scope{events}
			}
			change(second)
			rows = append(rows, bad{name, &pb.ImportTokensRequest{AppId: app, Imports: []*pb.TokenImport{first, second}}, want})
		}
		badTokenFields("imports[1].", func(name, field string, change func(*pb.Token)) {
			token := &pb.Token{Name: "new"}
			change(token)
			if token.GetNote() == "" && token.GetExpireTime() == nil {
				row(f.off, name, invalid(field), func(i *pb.TokenImport) { i.Name, i.Scopes = token.GetName(), token.GetScopes() })
			}
		})
		for name, text := range map[string]string{
			"empty": "", "weak": "0123456789", "repetitive": strings.Repeat("a", 4000), "with a space": foreign() + " ",
			"beyond ASCII":      foreign() + "ä",
			"with a line break": foreign() + "\n", "over-long": strings.Repeat(foreign(), 100),
		} {
			row(f.off, "secret "+name, invalid("imports[1].secret"),
				func(i *pb.TokenImport) { i.Credential = &pb.TokenImport_Secret{Secret: text} })
		}
		for name, digest := range map[string][]byte{
			"empty": {}, "31 bytes": sha("x")[:31], "33 bytes": append(sha("x"), 0),
			"in hexadecimal": []byte(fmt.Sprintf("%x", sha("x"))),
		} {
			row(f.off, "sha256 "+name, invalid("imports[1].sha256"),
				func(i *pb.TokenImport) { i.Credential = &pb.TokenImport_Sha256{Sha256: digest} })
		}
		row(f.off, "no credential", invalid("imports[1].credential"), func(i *pb.TokenImport) { i.Credential = nil })
		row(f.on, "B04 no scopes with enforcement", invalid("imports[1].scopes"), func(i *pb.TokenImport) { i.Scopes = nil })
		row(f.off, "B01 name taken", nameTaken, func(i *pb.TokenImport) { i.Name = "dis" })
		row(f.off, "B01 name of the first", nameTaken, func(i *pb.TokenImport) { i.Name = "first" })
		row(f.off, "B08 revoked secret", secretTaken,
			func(i *pb.TokenImport) { i.Credential = &pb.TokenImport_Secret{Secret: f.offSecret} })
		row(f.off, "B08 revoked digest", secretTaken,
			func(i *pb.TokenImport) { i.Credential = &pb.TokenImport_Sha256{Sha256: sha(f.offSecret)} })
		row(f.full, "B01 too many", tooMany, func(*pb.TokenImport) {})
		many := make([]*pb.TokenImport, 1001)
		for i := range many {
			many[i] = strong()
		}
		return append(rows,
			bad{"none", &pb.ImportTokensRequest{AppId: f.off}, invalid("imports")},
			bad{"1,001", &pb.ImportTokensRequest{AppId: f.off, Imports: many}, invalid("imports")},
			bad{"an empty one", &pb.ImportTokensRequest{AppId: f.off, Imports: []*pb.TokenImport{{}}}, invalid("imports[0].name")},
		)
	},
	"GetApp": func(f fixture) []bad {
		return append(common(&pb.GetAppRequest{AppId: f.off}), bad{"never heard of", &pb.GetAppRequest{AppId: newApp()}, noApp})
	},
	"ListApps": func(fixture) []bad { return common(&pb.ListAppsRequest{}) },
	"DeleteApp": func(f fixture) []bad {
		return append(common(&pb.DeleteAppRequest{AppId: f.off}),
			bad{"never heard of", &pb.DeleteAppRequest{AppId: newApp()}, noApp},
			bad{"B28 enforced", &pb.DeleteAppRequest{AppId: f.on}, precondition("ENFORCED", "apps/"+f.on)},
		)
	},
	"SetEnforcement": func(f fixture) []bad {
		rows := common(&pb.SetEnforcementRequest{AppId: f.off, Scopes: []pb.Scope{events}})
		row := func(name string, want failure, change func(*pb.SetEnforcementRequest)) {
			r := &pb.SetEnforcementRequest{AppId: f.off, Scopes: []pb.Scope{events}}
			change(r)
			rows = append(rows, bad{name, r, want})
		}
		for name, scopes := range badScopes {
			row("scopes, "+name, invalid("scopes"), func(r *pb.SetEnforcementRequest) { r.Scopes = scopes })
		}
		for name, at := range badTimes {
			row("trial, "+name, invalid("trial_end_time"), func(r *pb.SetEnforcementRequest) { r.TrialEndTime = at })
		}
		row("trial in the past", invalid("trial_end_time"),
			func(r *pb.SetEnforcementRequest) { r.TrialEndTime = in(-time.Second) })
		for name, window := range badWindows {
			row("window, "+name, invalid("readiness_window"), func(r *pb.SetEnforcementRequest) { r.ReadinessWindow = window })
		}
		for _, ratio := range badRatios {
			row(fmt.Sprintf("ratio %v", ratio), invalid("max_rejected_ratio"),
				func(r *pb.SetEnforcementRequest) { r.MaxRejectedRatio = &ratio })
		}
		row("B12 no token", precondition("NO_TOKEN_FOR_SCOPE", "apps/"+f.on), func(r *pb.SetEnforcementRequest) {
			r.AppId, r.Scopes = f.on, []pb.Scope{events, revenue}
		})
		unknown := newApp()
		row("B12 app never heard of", precondition("NO_TOKEN_FOR_SCOPE", "apps/"+unknown),
			func(r *pb.SetEnforcementRequest) { r.AppId = unknown })
		for _, r := range rows {
			dry := proto.CloneOf(r.request.(*pb.SetEnforcementRequest))
			dry.ValidateOnly = true
			rows = append(rows, bad{r.name + ", dry", dry, r.want})
		}
		return rows
	},
	"GetReadiness": badReadiness, "ListReadiness": badReadinessLists, "FindToken": badSearches,
	"WaitForPropagation": func(fixture) []bad {
		rows := []bad{}
		for name, token := range map[string]string{
			"none": "", "not base64": "%%%", "not ours": "Zm9v", "over-long": strings.Repeat("QUFB", 1000), "nothing in it": "Cg",
			"another store": record.EncodePosition(record.Position{
				StoreID: "another", Partition: 1,
				Cursor: record.Cursor{Epoch: 1},
			}),
			"no such partition": record.EncodePosition(record.Position{Partition: 200, Cursor: record.Cursor{Epoch: 1}}),
		} {
			rows = append(rows, bad{name, &pb.WaitForPropagationRequest{ConsistencyToken: token}, invalid("consistency_token")})
		}
		return rows
	},
	"ListValidators": func(fixture) []bad { return nil }, // there is nothing to do wrong
	"ForgetValidator": func(fixture) []bad {
		rows := []bad{{
			"unknown", &pb.ForgetValidatorRequest{ValidatorId: "nobody"},
			failure{codes.NotFound, "VALIDATOR_NOT_FOUND", ""},
		}}
		for name, id := range map[string]string{
			"none": "", "101 characters": long(101), "a line break": "a\nb", "a space at the end": "a ", "only space": " ",
		} {
			rows = append(rows, bad{name, &pb.ForgetValidatorRequest{ValidatorId: id}, invalid("validator_id")})
		}
		return rows
	},
	"ListAuditEvents": func(f fixture) []bad {
		return []bad{{"not served", &pb.ListAuditEventsRequest{AppId: f.on}, notServed}}
	},
}

// TestBadRequests: for every method of the service, each bad request fails with its code, reason and field,
// changes nothing, and repeats no secret (B02).
func TestBadRequests(t *testing.T) {
	w := newWorld(t)
	f := w.fixture(t)
	held := w.contents(t)
	for _, method := range pb.AuthorityService_ServiceDesc.Methods {
		rows, known := badRequests[method.MethodName]
		if !known {
			t.Errorf("%s has no bad requests", method.MethodName)
			continue
		}
		t.Run(method.MethodName, func(t *testing.T) {
			for _, row := range rows(f) {
				t.Run(row.name, func(t *testing.T) {
					_, err := w.invoke(t, method.MethodName, row.request)
					wantFailure(t, err, row.want)
					checkNoSecrets(t, err, row.request)
				})
			}
			w.wantSame(t, held)
		})
	}
}

// checkNoSecrets checks that an error repeats no text of a request that is long enough for a secret.
func checkNoSecrets(t *testing.T, err error, request proto.Message) {
	t.Helper()
	told := fmt.Sprintf("%v %v", err, status.Convert(err).Details())
	walk(request.ProtoReflect(), func(text string, _ func(string)) {
		if len(text) >= 30 && strings.Contains(told, text) {
			t.Errorf("the error repeats %q: %s", text, told)
		}
	})
}

// walk visits every text of a message, which visit may replace.
func walk(m protoreflect.Message, visit func(text string, replace func(string))) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		switch {
		case field.IsList() && m.Has(field):
			list := m.Get(field).List()
			for j := range list.Len() {
				switch field.Kind() {
				case protoreflect.StringKind:
					visit(list.Get(j).String(), func(text string) { list.Set(j, protoreflect.ValueOfString(text)) })
				case protoreflect.MessageKind:
					walk(list.Get(j).Message(), visit)
				}
			}
		case field.IsList():
		case field.Kind() == protoreflect.StringKind && (field.ContainingOneof() == nil || m.Has(field)):
			visit(m.Get(field).String(), func(text string) { m.Set(field, protoreflect.ValueOfString(text)) })
		case field.Kind() == protoreflect.MessageKind && m.Has(field):
			walk(m.Get(field).Message(), visit)
		}
	}
}
