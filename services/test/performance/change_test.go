package performance

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/pkg/testkit/check"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/test/cluster"
)

const (
	// changeValidators is the number of validators that are asked.
	changeValidators = 2
	// changePause is the pause of an observer between two questions. It bounds the error of the measurement.
	changePause = 100 * time.Microsecond
)

// BenchmarkChange makes b.N changes, one after the other. Each creates a token. It reports how long it took
// until the last of two validators accepted the token over gRPC, counted from before the call and from its
// return. In the variant heads, the validators may not subscribe to hints, so that they see changes only by
// polling the heads.
func BenchmarkChange(b *testing.B) {
	for _, variant := range []struct {
		name    string
		account string
	}{
		{"hints", cluster.ValidatorAccount},
		{"heads", strings.ReplaceAll(cluster.ValidatorAccount, "+subscribe", "")},
	} {
		b.Run(variant.name, func(b *testing.B) {
			w := start(b, cluster.Options{Validators: changeValidators, Account: variant.account, RedisArgs: durable})
			var deciders []countersignv1.ValidatorServiceClient
			for _, address := range w.Validators {
				deciders = append(deciders, countersignv1.NewValidatorServiceClient(check.Dial(b, address, retryQuickly)))
			}
			measureChanges(b, w, deciders)
		})
	}
}

func measureChanges(b *testing.B, w *world, deciders []countersignv1.ValidatorServiceClient) {
	var sinceCall, sinceReturn times
	for i := 0; b.Loop(); i++ {
		appID := fmt.Sprintf("app%d", i%100)
		called := time.Now()
		created, err := w.management.CreateToken(w.admin, &countersignv1.CreateTokenRequest{
			AppId: appID, Name: fmt.Sprintf("token %d", i), Scopes: []countersignv1.Scope{events},
		})
		if err != nil {
			b.Fatal(err)
		}
		returned := time.Now()
		seen := awaitAccepted(b, deciders, appID, created.GetSecret())
		sinceCall.add(seen.Sub(called))
		sinceReturn.add(max(seen.Sub(returned), 0))
	}
	b.StopTimer()
	for from, t := range map[string]*times{"call": &sinceCall, "return": &sinceReturn} {
		for name, q := range map[string]float64{"p50": 0.5, "p99": 0.99, "max": 1} {
			b.ReportMetric(float64(t.at(q))/float64(time.Millisecond), name+"-ms/since-"+from)
		}
	}
}

// awaitAccepted returns when the last validator accepted a secret.
func awaitAccepted(b *testing.B, deciders []countersignv1.ValidatorServiceClient, appID, secret string) time.Time {
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	seen := make([]time.Time, len(deciders))
	var group errgroup.Group
	for i, decider := range deciders {
		group.Go(func() error {
			for {
				response, err := decider.Authorize(ctx, &countersignv1.AuthorizeRequest{AppId: appID, Token: secret, Scope: events})
				if err != nil {
					return err
				}
				if response.GetReason() == countersignv1.Reason_REASON_TOKEN_VALID {
					seen[i] = time.Now()
					return nil
				}
				time.Sleep(changePause)
			}
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
	return slices.MaxFunc(seen, time.Time.Compare)
}
