package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/internal/testcluster"
)

// evidence is everything that is searched for secrets. It is safe for concurrent use.
type evidence struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (e *evidence) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.text.Write(p)
}

// has tells whether a text is in the evidence, in whatever case.
func (e *evidence) has(text string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return bytes.Contains(bytes.ToLower(e.text.Bytes()), bytes.ToLower([]byte(text)))
}

// find returns the forms in which a secret is in the evidence: as it is, a part of it, and as programs like to write
// bytes.
func (e *evidence) find(secret string) (forms []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for name, form := range map[string]string{
		"plain":  secret,
		"middle": secret[10 : len(secret)-8],
		"hex":    hex.EncodeToString([]byte(secret)),
		"base64": base64.RawStdEncoding.EncodeToString([]byte(secret))[:40],
	} {
		if bytes.Contains(e.text.Bytes(), []byte(form)) {
			forms = append(forms, name)
		}
	}
	return forms
}

// TestB02_SecretsAreNowhereElse runs a whole scenario with debug logs on and searches logs, answers, errors, what Redis
// was sent and what it holds.
func TestB02_SecretsAreNowhereElse(t *testing.T) {
	var seen evidence
	w := start(t, testcluster.Options{Log: &seen})
	monitor(t, w, &seen)
	s := &scenario{world: w, seen: &seen}
	s.run()
	dumpRedis(t, w, &seen)

	if len(s.secrets) < 6 {
		t.Fatalf("the scenario has only %d secrets", len(s.secrets))
	}
	for what, secret := range s.secrets {
		if forms := seen.find(secret); len(forms) > 0 {
			t.Errorf("%s is there: %v", what, forms)
		}
		// The search would have found it.
		planted := evidence{}
		fmt.Fprintf(&planted, "x%sx", secret)
		if len(planted.find(secret)) == 0 {
			t.Errorf("%s is not found where it was planted", what)
		}
	}
	for what, sign := range map[string]string{
		"the log": "grpc.method=CreateToken", "what Redis was sent": `"xadd"`, "what Redis holds": "cs:meta", "errors": "INVALID_FIELD",
	} {
		if !seen.has(sign) {
			t.Errorf("%s is not in the evidence", what)
		}
	}
}

// scenario makes secrets, uses them rightly and wrongly, and keeps everything that comes back but the answers to
// CreateToken and RotateToken.
type scenario struct {
	*world
	seen    *evidence
	secrets map[string]string
}

func (s *scenario) note(answer proto.Message, err error) {
	if err != nil {
		fmt.Fprintf(s.seen, "%v %v\n", err, status.Convert(err).Details())
		return
	}
	_, _ = s.seen.Write([]byte(protojson.Format(answer)))
}

func (s *scenario) run() {
	const app = "secretive"
	ctx, m := s.admin, s.management
	created := must(m.CreateToken(ctx, &countersignv1.CreateTokenRequest{AppId: app, Name: "one", RequestId: "first"}))(s.t)
	rotated := must(m.RotateToken(ctx, &countersignv1.RotateTokenRequest{AppId: app, TokenId: created.GetToken().GetTokenId()}))(s.t)
	s.secrets = map[string]string{
		"the created secret":  created.GetSecret(),
		"the rotated secret":  rotated.GetSecret(),
		"the imported secret": "imported-Secret_0123456789.abcdefghijklmnop",
		"the admin key":       s.AdminKey.Reveal(),
		"the viewer key":      s.ViewerKey.Reveal(),
		"an unknown secret":   "cs_" + strings.Repeat("Zz9", 17)[:49],
	}
	s.note(m.CreateToken(ctx, &countersignv1.CreateTokenRequest{AppId: app, Name: "one", RequestId: "first"}))
	s.note(m.ImportTokens(ctx, &countersignv1.ImportTokensRequest{AppId: app, Imports: []*countersignv1.TokenImport{
		{Name: "foreign", Credential: &countersignv1.TokenImport_Secret{Secret: s.secrets["the imported secret"]}},
	}}))
	for what, value := range s.secrets {
		for _, decider := range s.deciders {
			s.note(decider.Authorize(ctx, &countersignv1.AuthorizeRequest{AppId: app, Token: value, Scope: events}))
			s.note(decider.Authorize(ctx, &countersignv1.AuthorizeRequest{AppId: app, Token: value}))
			s.note(decider.Authorize(ctx, &countersignv1.AuthorizeRequest{AppId: app, Scope: events, MinRevision: value}))
		}
		s.misplace(app, value)
		if !strings.Contains(what, "key") {
			s.note(m.RevokeSecret(ctx, &countersignv1.RevokeSecretRequest{Secret: " " + value + "\n", AllowLockout: true}))
		}
	}
	s.note(m.ListTokens(ctx, &countersignv1.ListTokensRequest{AppId: app, ShowRevoked: true}))
	s.note(m.GetApp(ctx, &countersignv1.GetAppRequest{AppId: app}))
	s.note(m.ListApps(ctx, &countersignv1.ListAppsRequest{}))
}

// misplace puts a secret where none belongs: into ids, masks and page tokens, and where another kind is wanted.
func (s *scenario) misplace(app, value string) {
	ctx, m := s.admin, s.management
	s.note(m.GetToken(ctx, &countersignv1.GetTokenRequest{AppId: app, TokenId: value}))
	s.note(m.RevokeToken(ctx, &countersignv1.RevokeTokenRequest{AppId: app, TokenId: value}))
	s.note(m.ListTokens(ctx, &countersignv1.ListTokensRequest{AppId: app, PageToken: value}))
	s.note(m.ListApps(ctx, &countersignv1.ListAppsRequest{PageToken: value}))
	s.note(m.UpdateToken(ctx, &countersignv1.UpdateTokenRequest{
		AppId: app, Token: &countersignv1.Token{TokenId: "tok_aaaaaaaaaaaaaaaa", Etag: value}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"name"}},
	}))
	s.note(m.ImportTokens(ctx, &countersignv1.ImportTokensRequest{AppId: app, Imports: []*countersignv1.TokenImport{
		{Name: "short", Credential: &countersignv1.TokenImport_Secret{Secret: value + " with a space"}},
		{Name: "digest", Credential: &countersignv1.TokenImport_Sha256{Sha256: []byte(value)}},
	}}))
	s.note(m.SetEnforcement(ctx, &countersignv1.SetEnforcementRequest{AppId: app, Etag: value}))
	s.note(m.WaitForPropagation(ctx, &countersignv1.WaitForPropagationRequest{ConsistencyToken: value}))
	stranger := metadata.AppendToOutgoingContext(s.t.Context(), "authorization", "Bearer "+value+"x")
	s.note(m.ListApps(stranger, &countersignv1.ListAppsRequest{}))
}

// monitor copies everything that Redis is sent into the evidence (Redis, MONITOR), until the test ends.
func monitor(t *testing.T, w *world, seen *evidence) {
	t.Helper()
	connection, err := net.Dial("tcp", w.Redis.Address())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := connection.Write([]byte("MONITOR\r\n")); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(connection)
	if line, err := reader.ReadString('\n'); err != nil || !strings.HasPrefix(line, "+OK") {
		t.Fatalf("MONITOR: %q %v", line, err)
	}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = reader.WriteTo(seen)
	}()
	t.Cleanup(func() {
		_ = connection.Close()
		<-copied
	})
}

// dumpRedis puts every key and value into the evidence.
func dumpRedis(t *testing.T, w *world, seen *evidence) {
	t.Helper()
	options := must(redis.ParseURL(w.RedisURL))(t)
	client := redis.NewClient(options)
	defer client.Close()
	ctx := context.WithoutCancel(t.Context())
	for keys := client.Scan(ctx, 0, "*", 1000).Iterator(); keys.Next(ctx); {
		key := keys.Val()
		fmt.Fprintln(seen, key)
		var value any
		var err error
		switch kind := client.Type(ctx, key).Val(); kind {
		case "string":
			value, err = client.Get(ctx, key).Result()
		case "hash":
			value, err = client.HGetAll(ctx, key).Result()
		case "stream":
			value, err = client.XRange(ctx, key, "-", "+").Result()
		default:
			t.Errorf("%s is a %s, which nobody looks into", key, kind)
		}
		if err != nil {
			t.Errorf("%s: %v", key, err)
		}
		fmt.Fprintln(seen, value)
	}
}
