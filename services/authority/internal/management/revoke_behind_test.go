package management_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// B10, B20: when an app's last good policy is older than its document, an authority cannot know whether the
// app has a leaked secret. It must not say that no app has it, and must name the app when others do.
func TestB10_AppsWhosePolicyIsBehind(t *testing.T) {
	w := newWorld(t)
	proxy := redistest.NewProxy(t, w.Redis.Address())
	late := w.another(t, strings.Replace(w.RedisURL, w.Redis.Address(), proxy.Address(), 1))
	apps := newApps(2)
	behind, holder := apps[0], apps[1]
	w.create(t, behind, "known to the authority", events)
	known := check.Must(w.GetApp(t.Context(), &pb.GetAppRequest{AppId: behind}))(t).GetApp().GetEtag()
	lists := func(unverified bool) func() bool {
		return func() bool {
			for _, app := range check.Must(late.ListApps(t.Context(), &pb.ListAppsRequest{}))(t).GetApps() {
				if app.GetAppId() == behind {
					return app.GetUnverified() == unverified && (unverified || app.GetEtag() == known)
				}
			}
			return false
		}
	}
	watch(t, lists(false))

	// While the authority cannot reach the store, a token is imported, the log loses the entry of that
	// change, and the app's document is damaged.
	proxy.Refuse()
	proxy.Cut()
	leaked := foreign()
	w.share(t, leaked, behind)
	hash := policy.HashApp(behind)
	if err := w.redis.XTrimMaxLen(t.Context(), record.KeysOf(hash.Partition(record.DefaultPartitions)).Log,
		0).Err(); err != nil {
		t.Fatal(err)
	}
	w.damage(t, behind)
	proxy.Restore()
	watch(t, lists(true))

	_, err := late.RevokeSecret(t.Context(), &pb.RevokeSecretRequest{Secret: leaked})
	wantFailure(t, err, failure{codes.Unavailable, apierr.PolicyUnverified, ""})
	tokens := w.share(t, leaked, holder)
	_, err = late.RevokeSecret(t.Context(), &pb.RevokeSecretRequest{Secret: leaked})
	wantFailure(t, err, failure{codes.Unavailable, apierr.OutcomeUnknown, ""})
	done := answerIn(t, err)
	if len(done.GetTokens()) != 1 || done.GetTokens()[0].GetToken().GetTokenId() != tokens[holder] ||
		!slices.Equal(done.GetUnverifiedAppIds(), []string{behind}) {
		t.Errorf("got %v, want the token of %s, and %s among those that could not be looked at", done, holder, behind)
	}
}
