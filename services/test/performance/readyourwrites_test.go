package performance

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/pkg/validator"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/test/cluster"
)

var (
	writes       = flag.Int("writes.pairs", 500, "how many tokens are created and asked about")
	writesAtOnce = flag.Int("writes.clients", 16, "how many clients do so at once")
)

const (
	// tokensPerApp is the number of tokens of an app.
	tokensPerApp = 10
	// lateness is the delay of everything from Redis, for validators of the kind late.
	lateness = 20 * time.Millisecond
	// cutEvery is how often validators of the kind cut lose all connections.
	cutEvery = time.Second
)

// TestB25_ReadYourWrites creates tokens and asks random validators about each at once. With min_revision, no
// validator may answer from data without the change. Only one kind of validator hears of changes at once; the
// calls without min_revision show how far behind the others are.
func TestB25_ReadYourWrites(t *testing.T) {
	w := start(t, cluster.Options{RedisArgs: durable})
	kinds := w.startKinds()
	var clients errgroup.Group
	var next atomic.Int64
	began := time.Now()
	for range *writesAtOnce {
		clients.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= *writes {
					return nil
				}
				if err := w.writeAndRead(i, kinds); err != nil {
					return err
				}
			}
		})
	}
	if err := clients.Wait(); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)

	behind := 0
	figures := newTable("validator", "with min_revision", "old answers", "UNAVAILABLE", "p50", "p99", "max", "without",
		"old answers")
	for _, k := range kinds {
		figures.row(k.name, strconv.Itoa(k.asked.len()), strconv.Itoa(int(k.old.Load())), strconv.Itoa(int(k.undecided.Load())),
			ms(k.asked.at(0.5)), ms(k.asked.at(0.99)), ms(k.asked.at(1)), strconv.Itoa(k.askedPlainly.len()),
			strconv.Itoa(int(k.oldPlainly.Load())))
		behind += int(k.oldPlainly.Load())
		if n := k.old.Load(); n > 0 {
			t.Errorf("%s: %d of %d answers were from before the change that they had to know of", k.name, n, k.asked.len())
		}
		if asked := k.asked.len(); asked == 0 || int(k.undecided.Load()) > asked/10 {
			t.Errorf("%s: %d of %d calls were not decided", k.name, k.undecided.Load(), asked)
		}
	}
	if behind == 0 {
		t.Error("no validator was ever behind: nothing was tried")
	}
	figures.print(t, fmt.Sprintf("%d tokens in %v, %d clients", *writes, took.Round(time.Millisecond), *writesAtOnce))
}

// kind is a pair of validators that hear of changes in the same way.
type kind struct {
	name    string
	members []*validator.Validator
	// asked are the latencies of calls with min_revision, askedPlainly of those without.
	asked, askedPlainly times
	// old counts answers from before the change, undecided the errors.
	old, undecided, oldPlainly atomic.Int64
}

// startKinds starts two validators of each kind.
func (w *world) startKinds() []*kind {
	deaf := strings.ReplaceAll(cluster.ValidatorAccount, "+subscribe", "")
	late, cut := redistest.NewProxy(w.t, w.Redis.Address()), redistest.NewProxy(w.t, w.Redis.Address())
	late.Delay(lateness)
	w.cutNowAndThen(cut)
	kinds := []*kind{
		{name: "hears hints", members: w.embed(2, nil, w.account("hearing", cluster.ValidatorAccount, w.Redis.Address()))},
		{name: "hears no hints", members: w.embed(2, nil, w.account("deaf", deaf, w.Redis.Address()))},
		{
			name:    fmt.Sprintf("everything %v late", lateness),
			members: w.embed(2, nil, w.account("late", cluster.ValidatorAccount, late.Address())),
		},
		{
			name:    fmt.Sprintf("cut off every %v", cutEvery),
			members: w.embed(2, nil, w.account("cut", cluster.ValidatorAccount, cut.Address())),
		},
	}
	for _, k := range kinds {
		awaitReady(w.t, k.members)
	}
	return kinds
}

// writeAndRead creates a token and asks two random validators at once: one with min_revision, one without.
func (w *world) writeAndRead(i int, kinds []*kind) error {
	app := fmt.Sprintf("app%d", i/tokensPerApp)
	created, err := w.management.CreateToken(w.admin, &countersignv1.CreateTokenRequest{
		AppId: app, Name: fmt.Sprintf("token %d", i), Scopes: []countersignv1.Scope{events},
	})
	if err != nil {
		return err
	}
	request := validator.Request{AppID: app, Token: secret.New(created.GetSecret()), Scope: policy.Scope(events)}
	bound := request
	bound.MinRevision = created.GetConsistencyToken()
	var both errgroup.Group
	both.Go(func() error {
		k := kinds[rand.N(len(kinds))]
		began := time.Now()
		answer, err := k.any().Authorize(w.t.Context(), bound)
		k.asked.add(time.Since(began))
		switch {
		case apierr.ReasonOf(err) == apierr.RevisionNotReached:
			k.undecided.Add(1)
		case err != nil:
			return err
		case answer.Reason != policy.TokenValid:
			k.old.Add(1)
		}
		return nil
	})
	both.Go(func() error {
		k := kinds[rand.N(len(kinds))]
		began := time.Now()
		answer, err := k.any().Authorize(w.t.Context(), request)
		k.askedPlainly.add(time.Since(began))
		if err == nil && answer.Reason != policy.TokenValid {
			k.oldPlainly.Add(1)
		}
		return err
	})
	return both.Wait()
}

func (k *kind) any() *validator.Validator { return k.members[rand.N(len(k.members))] }

// cutNowAndThen cuts all connections through a proxy, again and again, until the test ends.
func (w *world) cutNowAndThen(p *redistest.Proxy) {
	ctx, cancel := context.WithCancel(w.t.Context())
	var cutting sync.WaitGroup
	w.t.Cleanup(func() { cancel(); cutting.Wait() })
	cutting.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(cutEvery):
				p.Cut()
			}
		}
	})
}
