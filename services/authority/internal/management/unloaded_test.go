package management_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/check"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/test/cluster"
)

// partitionOf returns the partition of an app in a store of the usual size.
func partitionOf(app string) int {
	hash := policy.HashApp(app)
	return hash.Partition(record.DefaultPartitions)
}

// TestB20_UnprovablePartitionCostsItsOwnApps: an authority that starts over a store with one partition that
// does not prove serves all other apps. It never presents a part as the whole.
func TestB20_UnprovablePartitionCostsItsOwnApps(t *testing.T) {
	w := newWorldWith(t, cluster.Options{})
	broken, twin, healthy := "app-0", "", ""
	for i := 1; twin == "" || healthy == ""; i++ {
		app := fmt.Sprintf("app-%d", i)
		if partitionOf(app) == partitionOf(broken) && twin == "" {
			twin = app
		} else if partitionOf(app) != partitionOf(broken) && healthy == "" {
			healthy = app
		}
	}
	unreachable := fmt.Sprintf("partition %d", partitionOf(broken))
	leaked := w.create(t, healthy, "leaked").GetSecret()
	w.create(t, broken, "gone")
	w.create(t, twin, "beside it")
	w.AuthorityProcesses[0].Stop()
	// The document is missing, and the head counts it: an enforced app may have been removed.
	if err := w.redis.HDel(t.Context(), record.KeysOf(partitionOf(broken)).Policies, broken).Err(); err != nil {
		t.Fatal(err)
	}
	fresh := w.StartAuthority(t, w.Authority)
	check.Eventually(t, "a change of an app in another partition", func() error {
		_, err := w.CreateToken(t.Context(), &pb.CreateTokenRequest{AppId: healthy, Name: "new"})
		return err
	})
	var page string
	check.Eventually(t, "readiness", func() error {
		response, err := http.Get("http://" + fresh.HTTPAddress + "/readyz")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if page = string(body); response.StatusCode != http.StatusOK {
			return errors.Join(errors.New(page), err)
		}
		return err
	})
	if !strings.Contains(page, unreachable+":") || !strings.Contains(page, "1 of 64 partitions") {
		t.Errorf("/readyz: %s", page)
	}
	for what, err := range map[string]error{
		"GetApp":                           second(w.GetApp(t.Context(), &pb.GetAppRequest{AppId: broken})),
		"ListTokens":                       second(w.ListTokens(t.Context(), &pb.ListTokensRequest{AppId: broken})),
		"CreateToken":                      second(w.CreateToken(t.Context(), &pb.CreateTokenRequest{AppId: broken, Name: "x"})),
		"GetApp of another app there":      second(w.GetApp(t.Context(), &pb.GetAppRequest{AppId: twin})),
		"CreateToken of another app there": second(w.CreateToken(t.Context(), &pb.CreateTokenRequest{AppId: twin, Name: "x"})),
	} {
		if status.Code(err) != codes.Unavailable || apierr.ReasonOf(err) != apierr.NotLoaded ||
			!strings.Contains(err.Error(), unreachable) {
			t.Errorf("%s: %v, want UNAVAILABLE %s and %q", what, err, apierr.NotLoaded, unreachable)
		}
	}
	list := check.Must(w.ListApps(t.Context(), &pb.ListAppsRequest{}))(t)
	if len(list.GetApps()) != 1 || list.GetApps()[0].GetAppId() != healthy ||
		!slices.Equal(list.GetUnreachable(), []string{unreachable}) {
		t.Errorf("the list is %v", list)
	}

	// B10: the app in reach is changed. The call fails, and its error says what is left.
	_, err := w.RevokeSecret(t.Context(), &pb.RevokeSecretRequest{Secret: leaked})
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), unreachable) ||
		!strings.Contains(err.Error(), healthy) {
		t.Errorf("RevokeSecret: %v", err)
	}
	tokens := check.Must(w.ListTokens(t.Context(), &pb.ListTokensRequest{AppId: healthy, ShowRevoked: true}))(t)
	if tokens.GetTokens()[0].GetState() != revoked {
		t.Errorf("after RevokeSecret: %v", tokens)
	}
	// For a secret that no other app has, the authority cannot know whether an app has it.
	_, err = w.RevokeSecret(t.Context(), &pb.RevokeSecretRequest{Secret: strings.Repeat("unknown secret ", 3)})
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), unreachable) {
		t.Errorf("RevokeSecret of an unknown one: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }
