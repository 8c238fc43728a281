package management_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/testkit/check"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// TestB11_Import: secrets and digests of another system work unchanged. In an app with imported tokens,
// foreign strings are looked up like any other.
func TestB11_Import(t *testing.T) {
	w := newWorld(t)
	app, other := newApp(), newApp()
	w.create(t, other, "a", events)
	plain, hashed, minted := foreign(), "any text at all, ä", secret.Mint().Reveal()
	done := check.Must(w.ImportTokens(t.Context(), &pb.ImportTokensRequest{AppId: app, Imports: []*pb.TokenImport{
		{Name: " plain ", Scopes: []pb.Scope{events}, Credential: &pb.TokenImport_Secret{Secret: plain}},
		{Name: "hashed", Credential: &pb.TokenImport_Sha256{Sha256: sha(hashed)}},
		{Name: "minted elsewhere", Scopes: []pb.Scope{revenue, events}, Credential: &pb.TokenImport_Secret{Secret: minted}},
	}}))(t)
	tokens := done.GetTokens()
	if len(tokens) != 3 {
		t.Fatalf("got %v", tokens)
	}
	for i, want := range []struct{ name, hint string }{
		{"plain", plain[:6]},
		{"hashed", ""},
		{"minted elsewhere", minted[3:9]},
	} {
		token := tokens[i]
		if token.GetName() != want.name || token.GetHint() != want.hint || !token.GetImported() || token.GetState() != active ||
			token.GetCreatedBy() != "admin" {
			t.Errorf("import %d is %v", i, token)
		}
	}
	if !slices.Equal(ids(w.list(t, app, false)), ids(tokens)) {
		t.Error("the list is not in the order of the imports")
	}
	after := done.GetConsistencyToken()
	for text, want := range map[string]*pb.AuthorizeResponse{
		plain:                     allow(pb.Reason_REASON_TOKEN_VALID, false, tokens[0].GetTokenId()),
		hashed:                    allow(pb.Reason_REASON_TOKEN_VALID_UNSCOPED, false, tokens[1].GetTokenId()),
		minted:                    allow(pb.Reason_REASON_TOKEN_VALID, false, tokens[2].GetTokenId()),
		"":                        allow(pb.Reason_REASON_TOKEN_MISSING, false, ""),
		"no such secret":          allow(pb.Reason_REASON_TOKEN_UNKNOWN, false, ""),
		plain + "x":               allow(pb.Reason_REASON_TOKEN_UNKNOWN, false, ""),
		strings.Repeat("x", 4097): allow(pb.Reason_REASON_TOKEN_MALFORMED, false, ""),
	} {
		w.authorize(t, after, &pb.AuthorizeRequest{AppId: app, Token: text, Scope: events}, want)
	}
	w.authorize(t, "", &pb.AuthorizeRequest{AppId: other, Token: plain, Scope: events},
		allow(pb.Reason_REASON_TOKEN_MALFORMED, false, ""))

	// B08: a revoked import cannot be imported again, neither as a secret nor as a digest. Nor can any other
	// secret of the app.
	check.Must(w.RevokeToken(t.Context(), &pb.RevokeTokenRequest{AppId: app, TokenId: tokens[0].GetTokenId()}))(t)
	held := w.contents(t)
	for i, text := range []string{plain, hashed, minted} {
		_, err := w.ImportTokens(t.Context(), &pb.ImportTokensRequest{AppId: app, Imports: []*pb.TokenImport{
			{Name: fmt.Sprint(i), Credential: &pb.TokenImport_Secret{Secret: foreign()}},
			{Name: "again", Credential: &pb.TokenImport_Sha256{Sha256: sha(text)}},
		}})
		wantFailure(t, err, secretTaken)
		if err != nil && !strings.Contains(err.Error(), "imports[1]") {
			t.Errorf("the error does not say which import: %v", err)
		}
	}
	w.wantSame(t, held)
	// Another app may have the same secret.
	w.share(t, plain, newApp())
}

// TestB11_RotatedImport: the successor of an imported token is minted.
func TestB11_RotatedImport(t *testing.T) {
	w := newWorld(t)
	app, text := newApp(), foreign()
	id := w.share(t, text, app)[app]
	rotated := check.Must(w.RotateToken(t.Context(), &pb.RotateTokenRequest{AppId: app, TokenId: id}))(t)
	if rotated.GetToken().GetImported() || !rotated.GetPrevious().GetImported() ||
		!secretForm.MatchString(rotated.GetSecret()) {
		t.Errorf("got %v", rotated.GetToken())
	}
	for text, id := range map[string]string{text: id, rotated.GetSecret(): rotated.GetToken().GetTokenId()} {
		w.authorize(t, rotated.GetConsistencyToken(), &pb.AuthorizeRequest{AppId: app, Token: text, Scope: events},
			allow(pb.Reason_REASON_TOKEN_VALID, false, id))
	}
}

// TestB11_LargestImport: 1,000 secrets of 4 KiB fit into a request.
func TestB11_LargestImport(t *testing.T) {
	w := newWorld(t)
	app := newApp()
	imports := make([]*pb.TokenImport, 1000)
	for i := range imports {
		text := strings.Repeat(foreign(), 100)[:4096]
		imports[i] = &pb.TokenImport{
			Name: fmt.Sprintf("%3d%s", i, long(97)), Scopes: []pb.Scope{events, sessions, revenue},
			Credential: &pb.TokenImport_Secret{Secret: text},
		}
	}
	done := check.Must(w.ImportTokens(t.Context(), &pb.ImportTokensRequest{AppId: app, Imports: imports}))(t)
	if len(done.GetTokens()) != 1000 || w.app(t, app).GetActiveTokenCount() != 1000 {
		t.Errorf("%d tokens, %v", len(done.GetTokens()), w.app(t, app))
	}
	last := imports[999].GetSecret()
	w.authorize(t, done.GetConsistencyToken(), &pb.AuthorizeRequest{AppId: app, Token: last, Scope: revenue},
		allow(pb.Reason_REASON_TOKEN_VALID, false, done.GetTokens()[999].GetTokenId()))
}
