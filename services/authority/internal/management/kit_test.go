package management_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/testkit/check"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/store"
	"github.com/countersign/countersign/services/test/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	events   = pb.Scope_SCOPE_EVENTS
	sessions = pb.Scope_SCOPE_SESSIONS
	revenue  = pb.Scope_SCOPE_AD_REVENUE
	gdpr     = pb.Scope_SCOPE_GDPR

	active   = pb.TokenState_TOKEN_STATE_ACTIVE
	disabled = pb.TokenState_TOKEN_STATE_DISABLED
	revoked  = pb.TokenState_TOKEN_STATE_REVOKED
	expired  = pb.TokenState_TOKEN_STATE_EXPIRED

	// patience bounds every wait; a busy machine with the race detector is slow.
	patience = 30 * time.Second
)

// world is a Countersign with two validators.
type world struct {
	pb.AuthorityServiceClient
	*cluster.Cluster
	conn       *grpc.ClientConn
	validators []pb.ValidatorServiceClient
	redis      *redisfeed.Client
}

func newWorld(t testing.TB) *world { return newWorldWith(t, cluster.Options{Validators: 2}) }

func newWorldWith(t testing.TB, options cluster.Options) *world {
	t.Helper()
	c := cluster.Start(t, options)
	w := &world{Cluster: c, conn: check.Dial(t, c.Authority, withKey(c.AdminKey.Reveal()))}
	w.AuthorityServiceClient = pb.NewAuthorityServiceClient(w.conn)
	for _, address := range c.Validators {
		w.validators = append(w.validators, pb.NewValidatorServiceClient(check.Dial(t, address)))
	}
	var err error
	if w.redis, err = redisfeed.Open(c.RedisURL, redisfeed.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.redis.Close() })
	return w
}

// withKey returns a dial option that sends an admin key with every unary call.
func withKey(key string) grpc.DialOption {
	return grpc.WithUnaryInterceptor(func(
		ctx context.Context, method string, request, response any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker,
		options ...grpc.CallOption,
	) error {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
		return invoke(ctx, method, request, response, conn, options...)
	})
}

// newApp returns the id of an unused app.
func newApp() string {
	id := make([]byte, 12)
	for i := range id {
		id[i] = "abcdefghijklmnopqrstuvwxyz0123456789"[rand.IntN(36)]
	}
	return string(id)
}

// create makes a token, which must succeed.
func (w *world) create(t testing.TB, app, name string, scopes ...pb.Scope) *pb.CreateTokenResponse {
	t.Helper()
	return check.Must(w.CreateToken(t.Context(), &pb.CreateTokenRequest{AppId: app, Name: name, Scopes: scopes}))(t)
}

// enforce sets the enforced scopes, whatever the readiness report says.
func (w *world) enforce(t testing.TB, app string, scopes ...pb.Scope) *pb.SetEnforcementResponse {
	t.Helper()
	return check.Must(w.SetEnforcement(t.Context(), &pb.SetEnforcementRequest{
		AppId: app, Scopes: scopes, AllowRejections: true,
	}))(t)
}

// update changes the fields of a token that a mask names.
func (w *world) update(ctx context.Context, app string, token *pb.Token, mask ...string) (*pb.UpdateTokenResponse, error) {
	return w.UpdateToken(ctx, &pb.UpdateTokenRequest{AppId: app, Token: token, UpdateMask: &fieldmaskpb.FieldMask{Paths: mask}})
}

func (w *world) get(t testing.TB, app, id string) *pb.Token {
	t.Helper()
	return check.Must(w.GetToken(t.Context(), &pb.GetTokenRequest{AppId: app, TokenId: id}))(t).GetToken()
}

func (w *world) app(t testing.TB, app string) *pb.App {
	t.Helper()
	return check.Must(w.GetApp(t.Context(), &pb.GetAppRequest{AppId: app}))(t).GetApp()
}

// list returns an app's tokens on one page.
func (w *world) list(t testing.TB, app string, ended bool) []*pb.Token {
	t.Helper()
	return check.Must(w.ListTokens(t.Context(), &pb.ListTokensRequest{
		AppId: app, PageSize: 1000,
		ShowRevoked: ended,
	}))(t).GetTokens()
}

// allow and deny are the answers of a validator, with the scope enforced or not.
func allow(reason pb.Reason, enforced bool, id string) *pb.AuthorizeResponse {
	return &pb.AuthorizeResponse{Decision: pb.Decision_DECISION_ALLOW, Reason: reason, Enforced: enforced, TokenId: id}
}

func deny(reason pb.Reason, id string) *pb.AuthorizeResponse {
	return &pb.AuthorizeResponse{Decision: pb.Decision_DECISION_DENY, Reason: reason, Enforced: true, TokenId: id}
}

// authorize asks every validator, after it has applied a change (B25). All must give the same answer.
func (w *world) authorize(t testing.TB, after string, request *pb.AuthorizeRequest, want *pb.AuthorizeResponse) {
	t.Helper()
	request = proto.CloneOf(request)
	request.MinRevision = after
	for i, validator := range w.validators {
		answer, err := validator.Authorize(t.Context(), request)
		if err != nil {
			t.Errorf("validator %d: %v", i, err)
			continue
		}
		answer.Revision, answer.DataAge = 0, nil
		if !proto.Equal(answer, want) {
			t.Errorf("validator %d: got %v, want %v", i, answer, want)
		}
	}
}

// failure is the part of an error that programs read.
type failure struct {
	code   codes.Code
	reason string
	// field is the field of the BadRequest, or the subject of the PreconditionFailure.
	field string
}

func (f failure) String() string { return fmt.Sprintf("%s %s %q", f.code, f.reason, f.field) }

func invalid(field string) failure {
	return failure{codes.InvalidArgument, "INVALID_FIELD", field}
}

func precondition(reason, subject string) failure {
	return failure{codes.FailedPrecondition, reason, subject}
}

func failureOf(err error) failure {
	f := failure{code: status.Code(err), reason: apierr.ReasonOf(err)}
	for _, detail := range status.Convert(err).Details() {
		switch d := detail.(type) {
		case *errdetails.BadRequest:
			for _, violation := range d.GetFieldViolations() {
				f.field += violation.GetField()
			}
		case *errdetails.PreconditionFailure:
			for _, violation := range d.GetViolations() {
				f.field += violation.GetSubject()
			}
		}
	}
	return f
}

func wantFailure(t testing.TB, err error, want failure) {
	t.Helper()
	if got := failureOf(err); got != want {
		t.Errorf("got %v (%v), want %v", got, err, want)
	}
}

// contents returns a DUMP of every key of the store. Usage counts are no part of it.
func (w *world) contents(t testing.TB) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, key := range check.Must(w.redis.Keys(t.Context(), "cs:*").Result())(t) {
		all[key] = check.Must(w.redis.Dump(t.Context(), key).Result())(t)
	}
	return all
}

// wantSame checks that the content of Redis has not changed.
func (w *world) wantSame(t testing.TB, held map[string]string) {
	t.Helper()
	now := w.contents(t)
	for key := range held {
		if now[key] != held[key] {
			t.Errorf("%s was changed", key)
		}
	}
	for key := range now {
		if _, was := held[key]; !was {
			t.Errorf("%s is new", key)
		}
	}
}

// store opens the store as another authority, until the test ends.
func (w *world) store(t testing.TB) *store.Store {
	t.Helper()
	meta := check.Must(w.redis.Meta(t.Context(), w.Ring))(t)
	r := replica.New(redisfeed.New(w.redis, meta.Partitions), record.NewCodec(w.Ring, meta), slog.New(slog.DiscardHandler))
	r.Lists()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	if err := r.WaitLoaded(t.Context()); err != nil {
		t.Fatal(err)
	}
	return store.New(store.Over(w.redis, meta.Partitions, store.Options{}), r, store.Options{}, slog.New(slog.DiscardHandler))
}

// write changes an app's document in a way that no call does, as another authority.
func (w *world) write(t testing.TB, app string, change func(*record.Document)) {
	t.Helper()
	check.Must(w.store(t).Update(t.Context(), store.Call{
		AppID: app,
		Change: func(before *record.Document) (*record.Document, error) {
			after := &record.Document{}
			if before != nil {
				*after = *before
				after.Tokens = slices.Clone(before.Tokens)
			}
			change(after)
			return after, nil
		},
		Answer: func(*record.Document, record.Position) proto.Message { return nil },
	}))(t)
}

func ids(tokens []*pb.Token) []string {
	var ids []string
	for _, token := range tokens {
		ids = append(ids, token.GetTokenId())
	}
	return ids
}

// in is a time from now.
func in(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(time.Now().Add(d)) }

// noDuration is a duration of 0, which differs from an absent one.
var noDuration = &durationpb.Duration{}

// foreign returns a strong secret of another system.
func foreign() string {
	text := make([]byte, 40)
	for i := range text {
		text[i] = "abcdefghijklmnopqrstuvwxyz"[rand.IntN(26)]
	}
	return "legacy-" + string(text)
}

func sha(text string) []byte {
	digest := sha256.Sum256([]byte(text))
	return digest[:]
}

// sameScopes compares without order.
func sameScopes(got []pb.Scope, want ...pb.Scope) bool {
	return slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want)))
}

// long is a text of a number of characters, some of them of several bytes.
func long(characters int) string { return strings.Repeat("ä", characters) }
