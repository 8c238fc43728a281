package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/testkit/check"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// places are the texts in which the test looks for secrets, by name.
type places map[string][]byte

// formsOf returns the forms in which a secret may leak: plain, encoded, or in part. The first characters
// after the prefix are the hint, which is public.
func formsOf(text string) map[string]string {
	whole := []byte(text)
	forms := map[string]string{
		"as it is": text, "its middle": text[12:28], "its end": text[len(text)-16:],
		"in hexadecimal": hex.EncodeToString(whole), "in capital hexadecimal": strings.ToUpper(hex.EncodeToString(whole)),
	}
	// In base64, the text before a secret shifts its bits, and the characters at its ends depend on its
	// neighbours.
	for shift := range 3 {
		shifted := append(make([]byte, shift), whole...)
		for name, encoding := range map[string]*base64.Encoding{
			"base64":    base64.RawStdEncoding,
			"base64url": base64.RawURLEncoding,
		} {
			encoded := encoding.EncodeToString(shifted)
			forms[fmt.Sprintf("in %s, shifted by %d", name, shift)] = encoded[4 : len(encoded)-4]
		}
	}
	return forms
}

// leaks lists the places that contain a secret. Secrets are given by name.
func leaks(where places, secrets map[string]string) (found []string) {
	for name, text := range secrets {
		for form, encoded := range formsOf(text) {
			for place, data := range where {
				if bytes.Contains(data, []byte(encoded)) {
					found = append(found, fmt.Sprintf("%s, %s, is in %s", name, form, place))
				}
			}
		}
	}
	slices.Sort(found)
	return found
}

// dump returns everything that Redis holds: the answers of commands, and the serialized values (DUMP), which
// may be compressed.
func (p *processes) dump(t *testing.T) places {
	t.Helper()
	all := places{}
	ctx := t.Context()
	for _, key := range check.Must(p.client.Keys(ctx, "*").Result())(t) {
		var value any
		switch kind := check.Must(p.client.Type(ctx, key).Result())(t); kind {
		case "string":
			value = check.Must(p.client.Get(ctx, key).Result())(t)
		case "hash":
			value = check.Must(p.client.HGetAll(ctx, key).Result())(t)
		case "stream":
			value = check.Must(p.client.XRange(ctx, key, "-", "+").Result())(t)
		case "list":
			value = check.Must(p.client.LRange(ctx, key, 0, -1).Result())(t)
		case "set":
			value = check.Must(p.client.SMembers(ctx, key).Result())(t)
		case "zset":
			value = check.Must(p.client.ZRangeWithScores(ctx, key, 0, -1).Result())(t)
		default:
			t.Fatalf("%s is a %s", key, kind)
		}
		all["Redis, "+key] = fmt.Appendf(nil, "%s %v", key, value)
		all["DUMP of "+key] = []byte(check.Must(p.client.Dump(ctx, key).Result())(t))
	}
	return all
}

// monitor collects the commands that Redis receives, until end is called.
func (p *processes) monitor(t *testing.T) (end func() []byte) {
	t.Helper()
	connection := check.Must(net.Dial("tcp", p.redis.Address()))(t)
	told := &buffer{}
	var done sync.WaitGroup
	done.Go(func() {
		part := make([]byte, 64<<10)
		for {
			n, err := connection.Read(part)
			_, _ = told.Write(part[:n])
			if err != nil {
				return
			}
		}
	})
	t.Cleanup(func() { connection.Close(); done.Wait() })
	fmt.Fprint(connection, "AUTH admin admin\r\nMONITOR\r\n")
	return func() []byte {
		if err := p.client.Echo(t.Context(), "the end of it").Err(); err != nil {
			t.Fatal(err)
		}
		check.Eventually(t, "the last command in MONITOR's output", func() error {
			if !bytes.Contains(told.Bytes(), []byte("the end of it")) {
				return errors.New("MONITOR has not shown it")
			}
			return nil
		})
		return told.Bytes()
	}
}

// caller makes calls, and keeps all responses and errors for the search.
type caller struct {
	heard buffer
}

// hear keeps a response or an error, without the one field that may hold the secret.
func (c *caller) hear(response any, err error) {
	if err != nil {
		s := status.Convert(err)
		fmt.Fprintf(&c.heard, "%v\n%v\n", err, s.Proto())
		for _, detail := range s.Details() {
			fmt.Fprintf(&c.heard, "%v\n", detail)
		}
		return
	}
	message := proto.Clone(response.(proto.Message))
	switch m := message.(type) {
	case *pb.CreateTokenResponse:
		m.Secret = ""
	case *pb.RotateTokenResponse:
		m.Secret = ""
	}
	fmt.Fprintf(&c.heard, "%s\n", prototext.Format(message))
	raw, _ := proto.Marshal(message)
	_, _ = c.heard.Write(raw)
}

// keep keeps a response and returns it.
func keep[T proto.Message](c *caller, response T) T {
	c.hear(response, nil)
	return response
}

// TestB02_NowhereElse: only the responses of CreateToken and RotateToken contain a secret. The logs of the
// processes, the commands and data of Redis, and all other responses, errors and pages do not contain it.
// Imported secrets and admin keys appear in none of them.
func TestB02_NowhereElse(t *testing.T) {
	p := startProcesses(t)
	endMonitor := p.monitor(t)
	c := &caller{}
	secrets := p.scenario(t, c)
	if len(secrets) < 15 {
		t.Fatalf("the scenario used only %d secrets", len(secrets))
	}

	search := func() places {
		where := p.dump(t)
		where["answers and errors"] = c.heard.Bytes()
		where["what Redis was told"] = endMonitor()
		for i, process := range slices.Concat(p.authorities, p.validators) {
			name := fmt.Sprintf("%s %d", process.name, i%2)
			where["output of "+name] = process.output.Bytes()
			for _, path := range []string{"/metrics", "/readyz", "/livez", "/"} {
				where[path+" of "+name] = process.page(t, path)
			}
		}
		return where
	}
	where := search()
	for _, found := range leaks(where, secrets) {
		t.Error(found)
	}
	for place, sign := range map[string]string{
		"output of authority 0": "CreateToken", "output of validator 0": "all policies loaded",
		"/metrics of authority 0": "CreateToken",
		"what Redis was told":     `"XADD"`, "answers and errors": "INVALID_FIELD",
	} {
		if !bytes.Contains(where[place], []byte(sign)) {
			t.Errorf("there is no %s in %s: the search shows nothing", sign, place)
		}
	}

	// The search finds a planted secret in every kind of place and in every form.
	planted := map[string]string{"planted": secret.Mint().Reveal()}
	text := planted["planted"]
	ctx := t.Context()
	for _, plant := range [][]any{
		{"SET", "string", "x" + text + "y"},
		{"SET", "hex", hex.EncodeToString([]byte(text))},
		{"HSET", "hash", "field", text},
		{"HSET", "hash of fields", text, "value"},
		{"XADD", "stream", "*", "field", base64.StdEncoding.EncodeToString([]byte("ab" + text))},
		{"RPUSH", "list", text},
		{"SADD", "set", text},
		{"ZADD", "zset", "1", text},
		{"SET", "key " + text, "x"},
		{"SET", "part", text[12:40]},
	} {
		before := len(leaks(p.dump(t), planted))
		if err := p.client.Do(ctx, plant...).Err(); err != nil {
			t.Fatal(err)
		}
		if len(leaks(p.dump(t), planted)) == before {
			t.Errorf("the search did not find the planted secret %v", plant[1])
		}
	}
	for place := range where {
		copied := places{place: append(bytes.Clone(where[place]), text...)}
		if len(leaks(copied, planted)) == 0 {
			t.Errorf("%s is not searched", place)
		}
	}
	if found := leaks(places{"what Redis was told": endMonitor()}, planted); len(found) == 0 {
		t.Error("the commands that Redis received are not searched")
	}
}

// scenario makes all calls with some secrets, with all mistakes that callers can make. It returns the secrets
// by name.
func (p *processes) scenario(t *testing.T, c *caller) map[string]string {
	t.Helper()
	secrets := map[string]string{}
	for name, key := range p.keys {
		secrets["the admin key of "+name] = key
	}
	as := func(credential string) grpc.CallOption {
		return grpc.PerRPCCredentials(bearer(credential))
	}
	ada := as(p.keys["ada"])
	one, two := pb.NewAuthorityServiceClient(p.authorities[0].dial(t)), pb.NewAuthorityServiceClient(p.authorities[1].dial(t))
	ctx := t.Context()
	events := []pb.Scope{pb.Scope_SCOPE_EVENTS}
	const app = "pezwd5bre2xb"

	create := &pb.CreateTokenRequest{AppId: app, Name: "a", Scopes: events, RequestId: "r1"}
	made := keep(c, check.Must(one.CreateToken(ctx, create, ada))(t))
	secrets["a created one"] = made.GetSecret()
	if again := keep(c, check.Must(two.CreateToken(ctx, create, ada))(t)); again.GetSecret() != "" ||
		again.GetToken().GetTokenId() != made.GetToken().GetTokenId() {
		t.Error("the response to a repeated request has a secret or another token")
	}
	// Each identity has its own request ids.
	create.Name, create.RequestId = "of grace", "r1"
	secrets["grace's"] = keep(c, check.Must(one.CreateToken(ctx, create, as(p.keys["grace"])))(t)).GetSecret()
	rotate := &pb.RotateTokenRequest{AppId: app, TokenId: made.GetToken().GetTokenId(), RequestId: "r2"}
	rotated := keep(c, check.Must(two.RotateToken(ctx, rotate, ada))(t))
	secrets["a rotated one"] = rotated.GetSecret()
	if again := keep(c, check.Must(one.RotateToken(ctx, rotate, ada))(t)); again.GetSecret() != "" {
		t.Error("the response to a repeated request contains a secret")
	}
	legacy, hashed := foreign(), foreign()
	secrets["an imported one"], secrets["an imported digest's"] = legacy, hashed
	digest := secret.DigestOf(hashed)
	keep(c, check.Must(one.ImportTokens(ctx, &pb.ImportTokensRequest{AppId: app, RequestId: "r3", Imports: []*pb.TokenImport{
		{Name: "legacy", Scopes: events, Credential: &pb.TokenImport_Secret{Secret: legacy}},
		{Name: "hashed", Scopes: events, Credential: &pb.TokenImport_Sha256{Sha256: digest[:]}},
	}}, ada))(t))
	keep(c, check.Must(one.SetEnforcement(ctx, &pb.SetEnforcementRequest{
		AppId: app, Scopes: events, AllowRejections: true,
	}, ada))(t))
	leaked := keep(c, check.Must(one.CreateToken(ctx, &pb.CreateTokenRequest{AppId: app, Name: "leaked", Scopes: events},
		ada))(t)).GetSecret()
	secrets["a leaked one"] = leaked
	keep(c, check.Must(two.RevokeSecret(ctx, &pb.RevokeSecretRequest{Secret: leaked + "\n", RequestId: "r4"}, ada))(t))

	// Calls that must be rejected, with secrets in fields where they do not belong.
	mistaken := func(name string) string {
		text := secret.Mint().Reveal()
		secrets["one given as "+name] = text
		return text
	}
	weak := "a weak secret with spaces in it"
	secrets["a weak one"] = weak
	id := made.GetToken().GetTokenId()
	token := func(t *pb.Token, mask string) *pb.UpdateTokenRequest {
		if t.GetTokenId() == "" {
			t.TokenId = id
		}
		return &pb.UpdateTokenRequest{AppId: app, Token: t, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{mask}}}
	}
	imports := func(i *pb.TokenImport) *pb.ImportTokensRequest {
		return &pb.ImportTokensRequest{AppId: app, Imports: []*pb.TokenImport{i}}
	}
	refused := func(response any, err error) {
		t.Helper()
		if err == nil {
			t.Errorf("a call with a secret in the wrong field was accepted: %v", response)
		}
		c.hear(nil, err)
	}
	secretOf := func(text string) *pb.TokenImport_Secret { return &pb.TokenImport_Secret{Secret: text} }
	for _, client := range []pb.AuthorityServiceClient{one, two} {
		refused(client.CreateToken(ctx, &pb.CreateTokenRequest{AppId: app, Name: mistaken("name"), Scopes: events}, ada))
		refused(client.CreateToken(ctx, &pb.CreateTokenRequest{
			AppId: app, Name: "n", Note: "it is " + mistaken("note"),
			Scopes: events,
		}, ada))
		refused(client.CreateToken(ctx, &pb.CreateTokenRequest{
			AppId: app, Name: "n", RequestId: mistaken("request id"),
			Scopes: events,
		}, ada))
		refused(client.CreateToken(ctx, &pb.CreateTokenRequest{AppId: mistaken("app"), Name: "n", Scopes: events}, ada))
		refused(client.CreateToken(ctx, &pb.CreateTokenRequest{AppId: mistaken("bad app") + "!", Name: "n", Scopes: events}, ada))
		refused(client.GetToken(ctx, &pb.GetTokenRequest{AppId: app, TokenId: mistaken("token id")}, ada))
		refused(client.RevokeToken(ctx, &pb.RevokeTokenRequest{AppId: app, TokenId: mistaken("token id to revoke")}, ada))
		refused(client.RotateToken(ctx, &pb.RotateTokenRequest{AppId: app, TokenId: mistaken("token id to rotate")}, ada))
		refused(client.UpdateToken(ctx, token(&pb.Token{TokenId: mistaken("token id to update")}, "name"), ada))
		refused(client.UpdateToken(ctx, token(&pb.Token{Name: mistaken("new name")}, "name"), ada))
		refused(client.UpdateToken(ctx, token(&pb.Token{Note: mistaken("new note")}, "note"), ada))
		refused(client.UpdateToken(ctx, token(&pb.Token{Name: "n", Etag: mistaken("etag")}, "name"), ada))
		refused(client.UpdateToken(ctx, token(&pb.Token{Name: "n"}, mistaken("mask")), ada))
		refused(client.ListTokens(ctx, &pb.ListTokensRequest{AppId: app, PageToken: mistaken("page token")}, ada))
		refused(client.ListApps(ctx, &pb.ListAppsRequest{PageToken: mistaken("page token of apps")}, ada))
		refused(client.GetApp(ctx, &pb.GetAppRequest{AppId: mistaken("app to get")}, ada))
		refused(client.DeleteApp(ctx, &pb.DeleteAppRequest{AppId: app, Etag: mistaken("app's etag")}, ada))
		refused(client.SetEnforcement(ctx, &pb.SetEnforcementRequest{AppId: mistaken("app to enforce"), Scopes: events}, ada))
		refused(client.WaitForPropagation(ctx,
			&pb.WaitForPropagationRequest{ConsistencyToken: mistaken("consistency token")}, ada))
		refused(client.RevokeSecret(ctx, &pb.RevokeSecretRequest{Secret: mistaken("nobody's secret")}, ada))
		refused(client.RevokeSecret(ctx, &pb.RevokeSecretRequest{
			Secret:    made.GetSecret(),
			RequestId: mistaken("request id to revoke"),
		}, ada))
		refused(client.ImportTokens(ctx, imports(&pb.TokenImport{Name: "n", Scopes: events, Credential: secretOf(weak)}), ada))
		refused(client.ImportTokens(ctx, imports(&pb.TokenImport{Name: "n", Scopes: events, Credential: secretOf(legacy)}), ada))
		refused(client.ImportTokens(ctx, imports(&pb.TokenImport{
			Name: mistaken("import's name"), Scopes: events,
			Credential: secretOf(foreign()),
		}), ada))
		refused(client.ImportTokens(ctx, imports(&pb.TokenImport{
			Name: "n", Scopes: events,
			Credential: &pb.TokenImport_Sha256{Sha256: []byte(mistaken("digest"))},
		}), ada))
		refused(client.ListApps(ctx, &pb.ListAppsRequest{}, as(mistaken("admin key"))))
		refused(client.ListApps(metadata.AppendToOutgoingContext(ctx, "authorization", mistaken("authorization")),
			&pb.ListAppsRequest{}))
		refused(client.ListApps(metadata.AppendToOutgoingContext(ctx, "authorization", "Basic "+mistaken("other scheme")),
			&pb.ListAppsRequest{}))
		refused(client.CreateToken(ctx, &pb.CreateTokenRequest{AppId: app, Name: "n"}, as(p.keys["vera"])))
		keep(c, check.Must(client.ListApps(metadata.AppendToOutgoingContext(ctx, "x-note", mistaken("metadata")),
			&pb.ListAppsRequest{}, ada))(t))
		keep(c, check.Must(client.ListTokens(ctx, &pb.ListTokensRequest{AppId: app, ShowRevoked: true}, ada))(t))
		keep(c, check.Must(client.GetApp(ctx, &pb.GetAppRequest{AppId: app}, ada))(t))
		keep(c, check.Must(client.ListApps(ctx, &pb.ListAppsRequest{}, ada))(t))
	}

	// The ingest tier asks about each of them, correctly and wrongly.
	for _, process := range p.validators {
		client := pb.NewValidatorServiceClient(process.dial(t))
		for _, text := range secrets {
			c.hear(client.Authorize(ctx, &pb.AuthorizeRequest{AppId: app, Token: text, Scope: pb.Scope_SCOPE_EVENTS}))
			c.hear(client.Authorize(ctx, &pb.AuthorizeRequest{AppId: app, Token: text + " ", Scope: pb.Scope_SCOPE_SESSIONS}))
			c.hear(client.Authorize(ctx, &pb.AuthorizeRequest{AppId: "other", Token: text, Scope: pb.Scope_SCOPE_EVENTS}))
			c.hear(client.Authorize(ctx, &pb.AuthorizeRequest{AppId: app, Token: text}))
			c.hear(client.Authorize(ctx, &pb.AuthorizeRequest{AppId: text, Token: text, Scope: pb.Scope_SCOPE_EVENTS}))
			c.hear(client.Authorize(ctx, &pb.AuthorizeRequest{AppId: text + "!", Token: text, Scope: pb.Scope_SCOPE_EVENTS}))
			c.hear(client.Authorize(ctx, &pb.AuthorizeRequest{
				AppId: app, Token: text, Scope: pb.Scope_SCOPE_EVENTS,
				MinRevision: text,
			}))
			c.hear(client.Authorize(ctx, &pb.AuthorizeRequest{
				AppId: app, Token: strings.Repeat(text, 100),
				Scope: pb.Scope_SCOPE_EVENTS,
			}))
			c.hear(client.Authorize(ctx, &pb.AuthorizeRequest{
				AppId: app, Token: strings.Repeat(text, 1000),
				Scope: pb.Scope_SCOPE_EVENTS,
			}))
		}
	}
	return secrets
}

// foreign returns a secret of another system.
func foreign() string {
	text := make([]byte, 48)
	for i := range text {
		text[i] = "abcdefghijklmnopqrstuvwxyz0123456789"[rand.IntN(36)]
	}
	return "legacy-" + string(text)
}

// bearer sends an admin key, also over plain text.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (bearer) RequireTransportSecurity() bool { return false }
