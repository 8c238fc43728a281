package importer

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/apierr"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/importfile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// held is a token of the fake.
type held struct {
	*countersignv1.Token
	digest [32]byte
}

type (
	importRequest  = countersignv1.ImportTokensRequest
	importResponse = countersignv1.ImportTokensResponse
)

// authority is an authority in memory with the rules that matter for imports.
type authority struct {
	mu    sync.Mutex
	apps  map[string][]held
	done  map[string]*importResponse // by app and request id
	asked map[string]*importRequest
	calls int
	ids   int
	// before, if not nil, may fail a call before it is carried out, and after one that was carried out.
	before, after func(call int, r *importRequest) error
	enforced      map[string]bool
}

func newAuthority() *authority {
	return &authority{
		apps: map[string][]held{}, done: map[string]*importResponse{}, asked: map[string]*importRequest{},
		enforced: map[string]bool{},
	}
}

// ImportTokens implements Authority.
func (a *authority) ImportTokens(_ context.Context, r *importRequest, _ ...grpc.CallOption) (*importResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls++
	if a.before != nil {
		if err := a.before(a.calls, r); err != nil {
			return nil, err
		}
	}
	response, err := a.carryOut(r)
	if err == nil && a.after != nil {
		if err := a.after(a.calls, r); err != nil {
			return nil, err
		}
	}
	return response, overTheWire(err)
}

func (a *authority) carryOut(r *importRequest) (*importResponse, error) {
	id := r.GetAppId() + " " + r.GetRequestId()
	if first := a.asked[id]; first != nil && !proto.Equal(first, r) {
		return nil, apierr.Invalid("request_id", "was used before with other content")
	} else if first != nil {
		return a.done[id], nil
	}
	all, response := slices.Clone(a.apps[r.GetAppId()]), &importResponse{ConsistencyToken: fmt.Sprint(a.calls)}
	for i, item := range r.GetImports() {
		digest := digestOf(item)
		if a.enforced[r.GetAppId()] && len(item.GetScopes()) == 0 {
			return nil, apierr.Invalid(fmt.Sprintf("imports[%d].scopes", i), "want at least one scope")
		}
		if slices.ContainsFunc(all, func(h held) bool { return h.digest == digest }) {
			return nil, apierr.AlreadyExists("SECRET_TAKEN", "imports[%d].secret: a token has the same secret", i)
		}
		a.ids++
		token := &countersignv1.Token{
			TokenId: fmt.Sprintf("tok_%d", a.ids), Name: item.GetName(), State: countersignv1.TokenState_TOKEN_STATE_ACTIVE,
		}
		all, response.Tokens = append(all, held{token, digest}), append(response.Tokens, token)
	}
	live := all[:0:0]
	for _, h := range all {
		if h.GetState() != countersignv1.TokenState_TOKEN_STATE_REVOKED {
			live = append(live, h)
		}
	}
	for i, item := range r.GetImports() {
		same := func(h held) bool { return h.GetName() == item.GetName() && h.digest != digestOf(item) }
		if slices.ContainsFunc(live, same) {
			return nil, apierr.AlreadyExists("NAME_TAKEN", "imports[%d].name: a token of the app has the name %q", i, item.GetName())
		}
	}
	if len(live) > maxTokens {
		return nil, apierr.Exhausted("TOO_MANY_TOKENS", "the app would have %d active or disabled tokens", len(live))
	}
	a.apps[r.GetAppId()], a.done[id], a.asked[id] = all, response, proto.Clone(r).(*importRequest)
	return response, nil
}

// ListTokens implements Authority, in pages of 300.
func (a *authority) ListTokens(_ context.Context, r *countersignv1.ListTokensRequest, _ ...grpc.CallOption,
) (*countersignv1.ListTokensResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	from := 0
	_, _ = fmt.Sscan(r.GetPageToken(), &from)
	response, all := &countersignv1.ListTokensResponse{}, a.apps[r.GetAppId()]
	for _, h := range all[from:min(from+300, len(all))] {
		response.Tokens = append(response.Tokens, h.Token)
	}
	if from+300 < len(all) {
		response.NextPageToken = fmt.Sprint(from + 300)
	}
	return response, nil
}

// GetApp implements Authority.
func (a *authority) GetApp(_ context.Context, r *countersignv1.GetAppRequest, _ ...grpc.CallOption,
) (*countersignv1.GetAppResponse, error) {
	app := &countersignv1.App{AppId: r.GetAppId()}
	if a.enforced[r.GetAppId()] {
		app.EnforcedScopes = []countersignv1.Scope{countersignv1.Scope_SCOPE_EVENTS}
	}
	return &countersignv1.GetAppResponse{App: app}, nil
}

// forget forgets the request ids, as the authority does after 24 h.
func (a *authority) forget() {
	a.done, a.asked = map[string]*importResponse{}, map[string]*importRequest{}
}

// count returns the number of tokens of all apps.
func (a *authority) count() (n int) {
	for _, tokens := range a.apps {
		n += len(tokens)
	}
	return n
}

// overTheWire turns an error into a status, as a server does.
func overTheWire(err error) error {
	if e, is := err.(*apierr.Error); is { //nolint:errorlint // the fake makes it
		return e.GRPCStatus().Err()
	}
	return err
}

func digestOf(item *countersignv1.TokenImport) [32]byte {
	if item.GetSecret() != "" {
		return sha256.Sum256([]byte(item.GetSecret()))
	}
	return [32]byte(item.GetSha256())
}

// rowsOf returns some rows for an app, with names and secrets that follow from their numbers.
func rowsOf(app string, numbers ...int) (rows []importfile.Row) {
	for _, n := range numbers {
		rows = append(rows, importfile.Row{Line: n + 2, AppID: app, Import: &countersignv1.TokenImport{
			Name: fmt.Sprint("name", n), Scopes: []countersignv1.Scope{countersignv1.Scope_SCOPE_EVENTS},
			Credential: &countersignv1.TokenImport_Secret{Secret: fmt.Sprintf("%032x", n)},
		}})
	}
	return rows
}

// upTo returns the numbers below n.
func upTo(n int) (numbers []int) {
	for i := range n {
		numbers = append(numbers, i)
	}
	return numbers
}
