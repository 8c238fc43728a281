package serve

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// LookupKey returns the key under which a Lookup server finds the policy of an app.
func LookupKey(appID string) string { return "bench:" + appID }

// LookupPolicy returns the value of that key: the parts of a document that decide, without a signature. The
// product's own documents, with names and a MAC, would cost more than a naive service needs.
func LookupPolicy(d *record.Document) ([]byte, error) {
	m := &countersignv1.Policy{Enforcement: &countersignv1.Enforcement{
		Scopes: uint64(d.Enforcement.Scopes), TrialEndMillis: d.Enforcement.TrialEndMillis,
		ScopesAfterTrial: uint64(d.Enforcement.After),
	}}
	for i := range d.Tokens {
		t := &d.Tokens[i]
		m.Tokens = append(m.Tokens, &countersignv1.PolicyToken{
			TokenId: t.ID, Digest: t.Digest[:], Scopes: uint64(t.Scopes), State: countersignv1.TokenState(t.State),
			ExpireMillis: t.ExpireMillis, Imported: t.Imported,
		})
	}
	return proto.Marshal(m)
}

// lookup answers Authorize with one GET of the app's policy and the product's decision.
type lookup struct {
	countersignv1.UnimplementedValidatorServiceServer
	*grpcServer
	redis *redis.Client
}

// lookupConnections is the size of the connection pool. It is large enough that no call waits for a
// connection.
const lookupConnections = 256

func newLookup(c Config) (server, error) {
	options, err := redis.ParseURL(c.RedisURL)
	if err != nil {
		return nil, err
	}
	options.PoolSize = lookupConnections
	options.DisableIdentity = true
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	s, err := newGRPCServer(c)
	if err != nil {
		return nil, err
	}
	l := &lookup{grpcServer: s, redis: redis.NewClient(options)}
	countersignv1.RegisterValidatorServiceServer(s, l)
	return l, nil
}

// Run implements server.
func (l *lookup) Run(ctx context.Context) error {
	return errors.Join(l.grpcServer.Run(ctx), l.redis.Close())
}

// Authorize implements countersignv1.ValidatorServiceServer.
func (l *lookup) Authorize(
	ctx context.Context, r *countersignv1.AuthorizeRequest,
) (*countersignv1.AuthorizeResponse, error) {
	if !policy.ValidAppID(r.GetAppId()) || r.GetScope() <= 0 || r.GetScope() > countersignv1.Scope(policy.MaxScope) {
		return nil, status.Error(codes.InvalidArgument, "want an app id and a scope")
	}
	raw, err := l.redis.Get(ctx, LookupKey(r.GetAppId())).Bytes()
	var p *policy.Policy
	switch {
	case errors.Is(err, redis.Nil):
	case err != nil:
		return nil, status.Error(codes.Unavailable, err.Error())
	default:
		if p, err = readPolicy(raw); err != nil {
			return nil, status.Error(codes.Unavailable, err.Error())
		}
	}
	d := policy.Decide(p, policy.Request{
		Token: secret.New(r.GetToken()), Scope: policy.Scope(r.GetScope()), Source: policy.Source(r.GetSource()),
		NowMillis: time.Now().UnixMilli(),
	})
	response := &countersignv1.AuthorizeResponse{
		Decision: countersignv1.Decision_DECISION_DENY, Reason: countersignv1.Reason(d.Reason),
		Enforced: d.Enforced, TokenId: d.TokenID,
	}
	if d.Allow {
		response.Decision = countersignv1.Decision_DECISION_ALLOW
	}
	return response, nil
}

func readPolicy(raw []byte) (*policy.Policy, error) {
	var m countersignv1.Policy
	if err := proto.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	tokens := make([]policy.Token, len(m.GetTokens()))
	for i, t := range m.GetTokens() {
		tokens[i] = policy.Token{
			ID: t.GetTokenId(), Scopes: policy.ScopeSet(t.GetScopes()), State: policy.State(t.GetState()),
			ExpireMillis: t.GetExpireMillis(), Imported: t.GetImported(),
		}
		copy(tokens[i].Digest[:], t.GetDigest())
	}
	e := m.GetEnforcement()
	return policy.New(policy.Enforcement{
		Scopes: policy.ScopeSet(e.GetScopes()), TrialEndMillis: e.GetTrialEndMillis(),
		After: policy.ScopeSet(e.GetScopesAfterTrial()),
	}, tokens, m.GetDeleted())
}
