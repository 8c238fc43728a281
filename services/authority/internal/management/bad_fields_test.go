package management_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/testkit/check"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// bad is a request that must fail.
type bad struct {
	name    string
	request proto.Message
	want    failure
}

// invoke calls a method of the AuthorityService by name.
func (w *world) invoke(t testing.TB, method string, request proto.Message) (proto.Message, error) {
	t.Helper()
	service := pb.File_countersign_v1_authority_proto.Services().ByName("AuthorityService")
	descriptor := service.Methods().ByName(protoreflect.Name(method))
	kind := check.Must(protoregistry.GlobalTypes.FindMessageByName(descriptor.Output().FullName()))(t)
	response := kind.New().Interface()
	err := w.conn.Invoke(t.Context(), "/"+string(service.FullName())+"/"+method, request, response)
	return response, err
}

// fixture has the apps of the bad requests.
type fixture struct {
	// on enforces EVENTS and has one token a. off enforces nothing, and has the tokens a, dis and rev.
	on, onToken, off, offToken, offRevoked, offDisabled string
	// onSecret is the secret of on's token, offSecret the secret of off's revoked token.
	onSecret, offSecret string
	// full has 1,000 tokens, one of which is fullToken.
	full, fullToken string
}

func (w *world) fixture(t testing.TB) fixture {
	t.Helper()
	f := fixture{on: newApp(), off: newApp(), full: newApp()}
	a := w.create(t, f.on, "a", events)
	f.onToken, f.onSecret = a.GetToken().GetTokenId(), a.GetSecret()
	w.enforce(t, f.on, events)
	f.offToken = w.create(t, f.off, "a").GetToken().GetTokenId()
	dis, rev := w.create(t, f.off, "dis", events), w.create(t, f.off, "rev", events)
	f.offDisabled, f.offRevoked, f.offSecret = dis.GetToken().GetTokenId(), rev.GetToken().GetTokenId(), rev.GetSecret()
	check.Must(w.update(t.Context(), f.off, &pb.Token{TokenId: f.offDisabled, State: disabled}, "state"))(t)
	check.Must(w.RevokeToken(t.Context(), &pb.RevokeTokenRequest{AppId: f.off, TokenId: f.offRevoked}))(t)
	imports := make([]*pb.TokenImport, 1000)
	for i := range imports {
		imports[i] = &pb.TokenImport{Name: fmt.Sprint(i), Credential: &pb.TokenImport_Secret{Secret: foreign()}}
	}
	f.fullToken = check.Must(w.ImportTokens(t.Context(), &pb.ImportTokensRequest{
		AppId:   f.full,
		Imports: imports,
	}))(t).GetTokens()[0].GetTokenId()
	return f
}

const unknownToken = "tok_aaaaaaaaaaaaaaaa"

// badTimes has times that no field may have.
var badTimes = map[string]*timestamppb.Timestamp{
	"after the year 9999":  {Seconds: 253402300800},
	"before 1970":          {Seconds: -1},
	"1970":                 {},
	"year 1, Go's zero":    timestamppb.New(time.Time{}),
	"not a time":           {Seconds: 1_900_000_000, Nanos: -1},
	"more than a second":   {Seconds: 1_900_000_000, Nanos: 1_000_000_000},
	"far beyond all times": {Seconds: math.MaxInt64},
}

// common returns the bad requests that differ from a good one in a shared field: app, token, request id or
// wait.
func common(good proto.Message) (rows []bad) {
	set := func(name, field string, value protoreflect.Value, want failure) {
		request := proto.Clone(good).ProtoReflect()
		if f := request.Descriptor().Fields().ByName(protoreflect.Name(field)); f != nil {
			request.Set(f, value)
			rows = append(rows, bad{field + ": " + name, request.Interface(), want})
		}
	}
	for name, id := range map[string]string{
		"none": "", "65 characters": strings.Repeat("a", 65), "a space": "my app", "a slash": "my/app",
		"a letter beyond ASCII": "äpp",
		"a NUL":                 "app\x00", "a line break": "app\n", "a dot": "my.app", "a brace": "{app}",
	} {
		set(name, "app_id", protoreflect.ValueOfString(id), invalid("app_id"))
	}
	for name, id := range map[string]string{
		"none": "", "over-long": strings.Repeat("t", 65), "no prefix": "aaaaaaaaaaaaaaaa", "too short": unknownToken[:19],
		"too long": unknownToken + "a", "a capital": "tok_aaaaaaaaaaaaaaaA", "a secret": secret.Mint().Reveal(),
	} {
		set(name, "token_id", protoreflect.ValueOfString(id), invalid("token_id"))
	}
	set("unknown", "token_id", protoreflect.ValueOfString(unknownToken), noToken)
	for name, id := range map[string]string{
		"65 characters": strings.Repeat("r", 65), "a space": "my id", "beyond ASCII": "ïd",
		"a slash": "a/b",
	} {
		set(name, "request_id", protoreflect.ValueOfString(id), invalid("request_id"))
	}
	for name, wait := range map[string]*durationpb.Duration{
		"none at all": {}, "negative": {Seconds: -1}, "more than 60 s": {Seconds: 60, Nanos: 1},
		"far too long":   {Seconds: math.MaxInt64},
		"not a duration": {Seconds: 1, Nanos: -1}, "more than a second in it": {Nanos: 1_000_000_000},
	} {
		set(name, "wait_for_propagation", protoreflect.ValueOfMessage(wait.ProtoReflect()), invalid("wait_for_propagation"))
	}
	if f := good.ProtoReflect().Descriptor().Fields().ByName("page_size"); f != nil {
		set("negative", "page_size", protoreflect.ValueOfInt32(-1), invalid("page_size"))
		set("most negative", "page_size", protoreflect.ValueOfInt32(math.MinInt32), invalid("page_size"))
		for name, token := range map[string]string{
			"not base64": "%%%", "not ours": "Zm9v", "over-long": strings.Repeat("QUFB", 1000), "nothing in it": "Cg",
		} {
			set(name, "page_token", protoreflect.ValueOfString(token), invalid("page_token"))
		}
	}
	if f := good.ProtoReflect().Descriptor().Fields().ByName("etag"); f != nil {
		set("over-long", "etag", protoreflect.ValueOfString(strings.Repeat("e", 65)), invalid("etag"))
		set("stale", "etag", protoreflect.ValueOfString("stale"), staleEtag)
	}
	return rows
}

// badScopes has sets of scopes that no token may have.
var badScopes = map[string][]pb.Scope{
	"unspecified": {pb.Scope_SCOPE_UNSPECIFIED}, "unknown": {99}, "negative": {-1}, "beyond 63": {64},
	"largest": {math.MaxInt32},
	"twice":   {events, sessions, events}, "unspecified among others": {events, 0},
}

func badTokenFields(prefix string, row func(name, field string, change func(*pb.Token))) {
	for name, text := range map[string]string{
		"none": "", "only space": " \t\n ", "101 characters": long(101), "a line break": "a\nb", "a NUL": "a\x00b",
		"DEL": "a\x7fb", "C1": "a\u0085b",
	} {
		row("name, "+name, prefix+"name", func(t *pb.Token) { t.Name = text })
	}
	row("note, 1,001 characters", prefix+"note", func(t *pb.Token) { t.Note = long(1001) })
	for name, scopes := range badScopes {
		row("scopes, "+name, prefix+"scopes", func(t *pb.Token) { t.Scopes = scopes })
	}
	row("scopes, GDPR", prefix+"scopes", func(t *pb.Token) { t.Scopes = []pb.Scope{gdpr} })
	for name, at := range badTimes {
		row("expiry, "+name, prefix+"expire_time", func(t *pb.Token) { t.ExpireTime = at })
	}
}
