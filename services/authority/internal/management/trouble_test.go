package management_test

import (
	"context"
	"log/slog"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/grpcserver"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/server"
	"github.com/countersign/countersign/services/internal/daemon"
)

// another starts another authority over the same store, and returns when it serves. The URL may name a Redis
// account.
func (w *world) another(t *testing.T, redisURL string) pb.AuthorityServiceClient {
	t.Helper()
	return w.anotherWith(t, redisURL, 0)
}

// anotherWith is another for an authority that waits for Redis replicas.
func (w *world) anotherWith(t *testing.T, redisURL string, writeQuorum int) pb.AuthorityServiceClient {
	t.Helper()
	s := check.Must(server.New(server.Config{
		Config: daemon.Config{
			GRPC: grpcserver.Config{Listen: "127.0.0.1:0"}, HTTP: grpcserver.HTTPConfig{Listen: "127.0.0.1:0"},
			RedisURL: redisURL, WriteQuorum: writeQuorum, Ring: w.Ring, Log: slog.New(slog.DiscardHandler),
		},
		AdminKeysFile: w.AdminKeysFile,
	}))(t)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	client := pb.NewAuthorityServiceClient(check.Dial(t, s.Addr().String(), withKey(w.AdminKey.Reveal())))
	watch(t, func() bool {
		_, err := client.ListApps(t.Context(), &pb.ListAppsRequest{})
		return apierr.ReasonOf(err) != apierr.NotLoaded
	})
	return client
}

// damage makes an app's document fail to verify.
func (w *world) damage(t *testing.T, app string) {
	t.Helper()
	hash := policy.HashApp(app)
	key := record.KeysOf(hash.Partition(record.DefaultPartitions)).Policies
	raw := check.Must(w.redis.HGet(t.Context(), key, app).Bytes())(t)
	raw[len(raw)-1] ^= 1
	if err := w.redis.HSet(t.Context(), key, app, raw).Err(); err != nil {
		t.Fatal(err)
	}
}

// TestUnverifiedApps: an app with a damaged document is not an app without a policy. It cannot be changed,
// and stops no other app. A leaked secret is revoked wherever it is known. The error names the apps that
// could not be checked (B10).
func TestUnverifiedApps(t *testing.T) {
	w := newWorld(t)
	leaked := foreign()
	apps := newApps(3)
	broken, holder, other := apps[0], apps[1], apps[2]
	tokens := w.share(t, leaked, broken, holder)
	elsewhere := w.create(t, broken, "a", events).GetSecret()
	w.create(t, other, "a", events)
	w.damage(t, broken)

	unverified := failure{codes.Unavailable, apierr.PolicyUnverified, ""}
	late := w.another(t, w.RedisURL)
	for name, authority := range map[string]pb.AuthorityServiceClient{
		"an authority that knew it": w,
		"one that came later":       late,
	} {
		t.Run(name, func(t *testing.T) {
			held := w.contents(t)
			_, err := authority.GetApp(t.Context(), &pb.GetAppRequest{AppId: broken})
			wantFailure(t, err, unverified)
			_, err = authority.ListTokens(t.Context(), &pb.ListTokensRequest{AppId: broken})
			wantFailure(t, err, unverified)
			_, err = authority.GetToken(t.Context(), &pb.GetTokenRequest{AppId: broken, TokenId: tokens[broken]})
			wantFailure(t, err, unverified)
			for _, c := range []func() error{
				func() error {
					_, err := authority.CreateToken(t.Context(), &pb.CreateTokenRequest{
						AppId: broken, Name: "new",
						Scopes: []pb.Scope{events},
					})
					return err
				},
				func() error {
					_, err := authority.RevokeToken(t.Context(), &pb.RevokeTokenRequest{AppId: broken, TokenId: tokens[broken]})
					return err
				},
				func() error {
					_, err := authority.SetEnforcement(t.Context(), &pb.SetEnforcementRequest{AppId: broken})
					return err
				},
				func() error {
					_, err := authority.DeleteApp(t.Context(), &pb.DeleteAppRequest{AppId: broken})
					return err
				},
			} {
				wantFailure(t, c(), unverified)
			}
			w.wantSame(t, held)
			listed := check.Must(authority.ListApps(t.Context(), &pb.ListAppsRequest{}))(t).GetApps()
			if len(listed) != 3 || listed[0].GetAppId() != broken || listed[1].GetUnverified() || listed[2].GetUnverified() {
				t.Errorf("listed are %v", listed)
			}
			check.Must(authority.GetApp(t.Context(), &pb.GetAppRequest{AppId: other}))(t)
		})
	}
	listed := check.Must(late.ListApps(t.Context(), &pb.ListAppsRequest{PageSize: 1}))(t).GetApps()
	if !listed[0].GetUnverified() {
		t.Errorf("listed is %v", listed)
	}

	for name, authority := range map[string]pb.AuthorityServiceClient{
		"an authority that knew it": w,
		"one that came later":       late,
	} {
		t.Run("a leaked secret, "+name, func(t *testing.T) {
			_, err := authority.RevokeSecret(t.Context(), &pb.RevokeSecretRequest{Secret: elsewhere})
			wantFailure(t, err, unverified)
			_, err = authority.RevokeSecret(t.Context(), &pb.RevokeSecretRequest{Secret: leaked})
			wantFailure(t, err, failure{codes.Unavailable, apierr.OutcomeUnknown, ""})
			done := answerIn(t, err)
			if len(done.GetTokens()) != 1 || done.GetTokens()[0].GetToken().GetTokenId() != tokens[holder] ||
				!slices.Equal(done.GetUnverifiedAppIds(), []string{broken}) {
				t.Errorf("got %v", done)
			}
			if got := w.get(t, holder, tokens[holder]).GetState(); got != revoked {
				t.Errorf("the token is %s", got)
			}
		})
	}
}

// TestTwoAuthorities: one authority reads and finds the changes of another at once, also when it learns of
// them late.
func TestTwoAuthorities(t *testing.T) {
	w := newWorld(t)
	if err := w.redis.Do(t.Context(), "ACL", "SETUSER", "deaf", "on", ">password", "~cs:*", "resetchannels",
		"+@all").Err(); err != nil {
		t.Fatal(err)
	}
	deaf := w.another(t, redistest.URL(w.Redis.Address(), "deaf", "password"))
	for i := range 20 {
		app := newApp()
		writer, reader := w.AuthorityServiceClient, deaf
		if i%4 == 0 {
			writer, reader = deaf, w.AuthorityServiceClient
		}
		made := check.Must(writer.CreateToken(t.Context(), &pb.CreateTokenRequest{AppId: app, Name: "a"}))(t)
		check.Must(reader.GetToken(t.Context(), &pb.GetTokenRequest{AppId: app, TokenId: made.GetToken().GetTokenId()}))(t)
		done := check.Must(reader.RevokeSecret(t.Context(), &pb.RevokeSecretRequest{Secret: made.GetSecret()}))(t)
		if len(done.GetTokens()) != 1 {
			t.Errorf("got %v", done)
		}
		got := check.Must(writer.GetApp(t.Context(), &pb.GetAppRequest{AppId: app}))(t).GetApp()
		if got.GetRevokedTokenCount() != 1 {
			t.Errorf("got %v", got)
		}
	}
}

// TestFullRedis: when Redis is out of memory, nothing can be created, and every call that ends a token works
// (B08).
func TestFullRedis(t *testing.T) {
	w := newWorld(t)
	app, gone, secret := newApp(), newApp(), foreign()
	first, second := w.create(t, app, "first", events).GetToken(), w.create(t, app, "second", events).GetToken()
	w.create(t, gone, "a")
	w.share(t, secret, app)
	if err := w.redis.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	full := failure{codes.Unavailable, apierr.StoreUnavailable, ""}
	held := w.contents(t)
	_, err := w.CreateToken(t.Context(), &pb.CreateTokenRequest{AppId: app, Name: "new", Scopes: []pb.Scope{events}})
	wantFailure(t, err, full)
	_, err = w.RotateToken(t.Context(), &pb.RotateTokenRequest{AppId: app, TokenId: first.GetTokenId()})
	wantFailure(t, err, full)
	_, err = w.SetEnforcement(t.Context(), &pb.SetEnforcementRequest{
		AppId: app, Scopes: []pb.Scope{events}, AllowRejections: true,
	})
	wantFailure(t, err, full)
	_, err = w.update(t.Context(), app, &pb.Token{TokenId: first.GetTokenId(), Name: "renamed"}, "name")
	wantFailure(t, err, full)
	w.wantSame(t, held)

	check.Must(w.update(t.Context(), app, &pb.Token{TokenId: first.GetTokenId(), State: disabled}, "state"))(t)
	check.Must(w.RevokeToken(t.Context(), &pb.RevokeTokenRequest{AppId: app, TokenId: second.GetTokenId(), RequestId: "r1"}))(t)
	check.Must(w.RevokeSecret(t.Context(), &pb.RevokeSecretRequest{Secret: secret, RequestId: "r2"}))(t)
	done := check.Must(w.DeleteApp(t.Context(), &pb.DeleteAppRequest{AppId: gone}))(t)
	w.authorize(t, done.GetConsistencyToken(), &pb.AuthorizeRequest{AppId: gone, Scope: events},
		allow(pb.Reason_REASON_APP_NOT_CONFIGURED, false, ""))
	if got := w.app(t, app); got.GetDisabledTokenCount() != 1 || got.GetRevokedTokenCount() != 2 {
		t.Errorf("got %v", got)
	}
}
