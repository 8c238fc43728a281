// Package linearizable checks that the management calls of several authorities over one Redis are
// linearizable, also when the network loses answers.
package linearizable

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/grpcserver"
	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	authority "github.com/countersign/countersign/services/authority/server"
	"github.com/countersign/countersign/services/internal/daemon"
	"github.com/countersign/countersign/services/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	calls = flag.Int("calls", 150, "how many calls each caller makes")
	seed  = flag.Uint64("seed", 1, "the seed of the calls and cuts")
)

const (
	callers = 6
	apps    = 3
	// maxGivenUp bounds the calls that are given up. Each call of unknown outcome doubles the work of the
	// check, and on a busy machine callers would give up most calls.
	maxGivenUp = 60
)

// TestManagementIsLinearizable lets six callers create, revoke and list tokens of few apps through two
// authorities. Meanwhile the connections of one authority to Redis are cut again and again, after the script
// has run and before its answer arrives. A caller without an answer repeats the call with the same
// request_id, or gives up.
func TestManagementIsLinearizable(t *testing.T) {
	redis := redistest.Start(t)
	proxy := redistest.NewProxy(t, redis.Address())
	ring := keyring.Generate()
	initStore(t, redis.URL(), ring)
	clients := []countersignv1.AuthorityServiceClient{start(t, redis.URL(), ring), start(t, proxy.URL(), ring)}

	began := time.Now()
	var givenUp atomic.Int64
	newCaller := func(id int) *caller {
		return &caller{
			id: id, client: clients[id%2], random: rand.New(rand.NewPCG(*seed, uint64(id))), known: map[string][]string{},
			givenUp: &givenUp,
		}
	}
	var mu sync.Mutex
	var history []porcupine.Operation
	unknown := 0
	note := func(operation porcupine.Operation) {
		mu.Lock()
		defer mu.Unlock()
		history = append(history, operation)
		if operation.Output.(output).unknown {
			unknown++
		}
	}
	var group sync.WaitGroup
	for id := range callers {
		group.Go(func() {
			c := newCaller(id)
			for n := range *calls {
				note(c.call(t.Context(), n, began))
			}
		})
	}
	// One call beside the callers is certain to be without an answer, on any machine.
	proxy.SwallowReplies()
	first := newCaller(callers + 1)
	first.random = nil
	unanswered := first.try(t.Context(), input{kind: create, app: appID(0), name: "n0"}, "first", began,
		1, 200*time.Millisecond)
	proxy.Cut()
	proxy.Restore()
	if !unanswered.Output.(output).unknown {
		t.Errorf("a call without replies from Redis was answered: %+v", unanswered)
	}
	note(unanswered)

	cutting, stop := context.WithCancel(t.Context())
	var cutter sync.WaitGroup
	cutter.Go(func() {
		random := rand.New(rand.NewPCG(*seed, 99))
		for cutting.Err() == nil {
			time.Sleep(time.Duration(random.IntN(60)) * time.Millisecond)
			proxy.SwallowReplies()
			time.Sleep(time.Duration(random.IntN(4)) * time.Millisecond)
			proxy.Cut()
			proxy.Restore()
		}
	})
	group.Wait()
	stop()
	cutter.Wait()
	// A final list: a call without an answer has taken effect by now, or never will.
	for app := range apps {
		c := newCaller(callers)
		c.random = nil
		history = append(history, c.do(t.Context(), input{kind: list, app: appID(app)}, "", began))
	}
	t.Logf("seed %d: %d calls, %d without an answer", *seed, len(history), unknown)
	if result := porcupine.CheckOperationsTimeout(model, history, 2*time.Minute); result != porcupine.Ok {
		t.Errorf("seed %d: the history is not linearizable: %v", *seed, result)
	}
}

// TestModelRefusesWhatIsNotLinearizable: the check can fail.
func TestModelRefusesWhatIsNotLinearizable(t *testing.T) {
	one := func(client int, in input, out output, call, back int64) porcupine.Operation {
		return porcupine.Operation{ClientId: client, Input: in, Output: out, Call: call, Return: back}
	}
	made := one(1, input{kind: create, app: "a", name: "x"}, output{id: "1"}, 0, 10)
	ended := one(2, input{kind: revoke, app: "a", id: "1"}, output{}, 20, 30)
	for name, tt := range map[string]struct {
		history []porcupine.Operation
		want    bool
	}{
		"in order": {[]porcupine.Operation{made, ended, one(3, input{kind: list, app: "a"}, output{}, 40, 50)}, true},
		"stale read": {[]porcupine.Operation{
			made, ended, one(3, input{kind: list, app: "a"}, output{tokens: "x=1"}, 40, 50),
		}, false},
		"one name twice": {[]porcupine.Operation{
			made,
			one(3, input{kind: create, app: "a", name: "x"}, output{id: "2"}, 20, 30),
		}, false},
		"lost": {[]porcupine.Operation{made, one(3, input{kind: list, app: "a"}, output{}, 20, 30)}, false},
		"unknown, and then there": {[]porcupine.Operation{
			one(1, input{kind: create, app: "a", name: "x"}, output{unknown: true}, 0, 1000),
			one(3, input{kind: list, app: "a"}, output{}, 20, 30), one(3, input{kind: list, app: "a"}, output{tokens: "x=7"}, 40, 50),
		}, true},
		"unknown, there and gone": {[]porcupine.Operation{
			one(1, input{kind: create, app: "a", name: "x"}, output{unknown: true}, 0, 1000),
			one(3, input{kind: list, app: "a"}, output{tokens: "x=7"}, 20, 30), one(3, input{kind: list, app: "a"}, output{}, 40, 50),
		}, false},
	} {
		if got := porcupine.CheckOperations(model, tt.history); got != tt.want {
			t.Errorf("%s: linearizable is %t", name, got)
		}
	}
}

// caller makes one call after the other.
type caller struct {
	id     int
	client countersignv1.AuthorityServiceClient
	random *rand.Rand
	// known are the tokens of each app that the caller has made or seen.
	known map[string][]string
	// givenUp counts the calls of all callers that were given up.
	givenUp *atomic.Int64
}

func appID(n int) string { return fmt.Sprintf("app%d", n) }

func (c *caller) call(ctx context.Context, n int, began time.Time) porcupine.Operation {
	in := input{app: appID(c.random.IntN(apps))}
	known := c.known[in.app]
	switch p := c.random.IntN(10); {
	case p < 4:
		in.kind, in.name = create, fmt.Sprintf("n%d", c.random.IntN(4))
	case p < 7 && len(known) > 0:
		in.kind, in.id = revoke, known[c.random.IntN(len(known))]
	default:
		in.kind = list
	}
	operation := c.do(ctx, in, fmt.Sprintf("%d-%d-%d", *seed, c.id, n), began)
	out := operation.Output.(output)
	if out.id != "" {
		c.known[in.app] = append(known, out.id)
	}
	for _, id := range parse(out.tokens) {
		c.known[in.app] = append(c.known[in.app], id)
	}
	return operation
}

// do makes a call. One in three calls has little time and one try, until maxGivenUp calls were given up. The
// others are repeated until they have an answer.
func (c *caller) do(ctx context.Context, in input, requestID string, began time.Time) porcupine.Operation {
	if c.random != nil && c.random.IntN(3) == 0 && c.givenUp.Load() < maxGivenUp {
		operation := c.try(ctx, in, requestID, began, 1, time.Duration(2+c.random.IntN(8))*time.Millisecond)
		if operation.Output.(output).unknown {
			c.givenUp.Add(1)
		}
		return operation
	}
	return c.try(ctx, in, requestID, began, 20, 8*time.Second)
}

// try makes a call with a number of tries, and a time for each.
func (c *caller) try(
	ctx context.Context, in input, requestID string, began time.Time, tries int, patience time.Duration,
) porcupine.Operation {
	operation := porcupine.Operation{ClientId: c.id, Input: in, Call: int64(time.Since(began))}
	var out output
	for range tries {
		ctx, cancel := context.WithTimeout(ctx, patience)
		var err error
		out, err = c.once(ctx, in, requestID)
		cancel()
		out.unknown = err != nil
		if err == nil {
			break
		}
	}
	operation.Output, operation.Return = out, int64(time.Since(began))
	if out.unknown && in.kind != list {
		operation.Return = int64(time.Hour) // the call may take effect at any later time
	}
	return operation
}

func (c *caller) once(ctx context.Context, in input, requestID string) (output, error) {
	switch in.kind {
	case create:
		made, err := c.client.CreateToken(ctx, &countersignv1.CreateTokenRequest{
			AppId: in.app, Name: in.name,
			RequestId: requestID,
		})
		if status.Code(err) == codes.AlreadyExists {
			return output{refused: true}, nil
		}
		return output{id: made.GetToken().GetTokenId()}, err
	case revoke:
		_, err := c.client.RevokeToken(ctx, &countersignv1.RevokeTokenRequest{AppId: in.app, TokenId: in.id, RequestId: requestID})
		return output{}, err
	}
	tokens := map[string]string{}
	request := &countersignv1.ListTokensRequest{AppId: in.app, PageSize: 1000}
	page, err := c.client.ListTokens(ctx, request)
	if err == nil && page.GetNextPageToken() != "" {
		return output{}, errors.New("more than one page")
	}
	for _, t := range page.GetTokens() {
		tokens[t.GetName()] = t.GetTokenId()
	}
	return output{tokens: format(tokens)}, err
}

func initStore(t *testing.T, url string, ring *keyring.Ring) {
	t.Helper()
	client, err := redisfeed.Open(url, redisfeed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, _, err := store.Init(t.Context(), client, ring, record.DefaultPartitions); err != nil {
		t.Fatal(err)
	}
}

// start starts an authority that accepts anonymous calls, and returns a client of it.
func start(t *testing.T, url string, ring *keyring.Ring) countersignv1.AuthorityServiceClient {
	t.Helper()
	const local = "127.0.0.1:0"
	server, err := authority.New(authority.Config{InsecureDev: true, Config: daemon.Config{
		GRPC: grpcserver.Config{Listen: local}, HTTP: grpcserver.HTTPConfig{Listen: local},
		RedisURL: url, Ring: ring, Log: slog.New(slog.DiscardHandler),
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		if err := group.Wait(); err != nil {
			t.Errorf("authority: %v", err)
		}
	})
	client := countersignv1.NewAuthorityServiceClient(check.Dial(t, server.Addr().String()))
	check.Eventually(t, "a started authority", func() error {
		_, err := client.ListApps(t.Context(), &countersignv1.ListAppsRequest{})
		return err
	})
	return client
}
