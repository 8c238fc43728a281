package validator_test

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/table"
	"github.com/countersign/countersign/pkg/validator"
)

var (
	benchTokens = flag.Int("tokens", 1_000_000, "how many tokens the benchmarks hold")
	benchPerApp = flag.Int("tokens-per-app", 10, "how many tokens each app of the benchmarks has")
)

// full is a validator that holds many tokens, without a store.
type full struct {
	*validator.Validator
	replica *replica.Replica
	// requests are about some of the tokens, unknown about secrets of none.
	requests, unknown []validator.Request
}

// away is a store that does not answer.
type away struct{}

var errAway = errors.New("away")

func (away) Heads(context.Context) ([]replica.HeadRead, error) { return nil, errAway }
func (away) Tail(context.Context, int, uint64, int) ([]byte, []replica.RawLink, error) {
	return nil, nil, errAway
}
func (away) Documents(context.Context, int, func(string, []byte)) error { return errAway }
func (away) Watch(context.Context, func(int, []byte)) error             { return errAway }

// asked is how many of the tokens are asked about: so many that what a processor keeps close helps as little as in real life.
const asked = 1 << 17

// fill makes one.
func fill(t testing.TB, tokens, perApp int) *full {
	t.Helper()
	meta := record.Meta{StoreID: "0123456789abcdef0123456789abcdef", Partitions: 64, CreateTime: time.Now()}
	codec := record.NewCodec(keyring.Generate(), meta)
	f := &full{replica: replica.New(away{}, codec, slog.New(slog.DiscardHandler))}
	f.Validator = validator.Of(f.replica)
	contents := make([]replica.Contents, meta.Partitions)
	at := record.Cursor{Epoch: 1, Revision: uint64(tokens)}
	for i := range contents {
		contents[i] = replica.Contents{Partition: i, Cursor: at, Confirmed: at, Base: at, VerifyTime: time.Now()}
	}
	every := max(tokens/asked, 1)
	for n := 0; n < tokens; n += perApp {
		app := fmt.Sprintf("app-%08d", n)
		list := make([]policy.Token, perApp)
		for i := range list {
			list[i] = policy.Token{ID: fmt.Sprintf("tok_%016d", n+i), Scopes: policy.ScopesOf(events), State: policy.Active}
			binary.BigEndian.PutUint64(list[i].Digest[:], rand.Uint64())
			binary.BigEndian.PutUint64(list[i].Digest[8:], rand.Uint64())
			if (n+i)%every == 0 && len(f.requests) < asked {
				minted := secret.Mint()
				list[i].Digest = minted.Digest()
				f.requests = append(f.requests, validator.Request{AppID: app, Token: minted, Scope: events})
				f.unknown = append(f.unknown, validator.Request{AppID: app, Token: secret.Mint(), Scope: events})
			}
		}
		p, err := policy.New(policy.Enforcement{Scopes: policy.ScopesOf(events)}, list, false)
		if err != nil {
			t.Fatal(err)
		}
		c := &contents[codec.PartitionOf(app)]
		c.Apps = append(c.Apps, replica.App{ID: app, Entry: &table.Entry{Policy: p, Revision: uint64(n + 1), PolicyRevision: uint64(n + 1)}})
		c.Sum = c.Sum.Plus(codec.Element(c.Partition, app, uint64(n+1)))
	}
	for i := range contents {
		if err := f.replica.Import(contents[i]); err != nil {
			t.Fatal(err)
		}
		contents[i] = replica.Contents{}
	}
	// It decides once the store was asked in vain.
	ctx, stop := context.WithTimeout(context.Background(), 30*time.Second)
	ended := make(chan error, 1)
	go func() { ended <- f.replica.Run(ctx) }()
	err := f.replica.WaitLoaded(ctx)
	stop()
	if err := errors.Join(err, <-ended); err != nil {
		t.Fatal(err)
	}
	rand.Shuffle(len(f.requests), func(i, j int) {
		f.requests[i], f.requests[j] = f.requests[j], f.requests[i]
		f.unknown[i], f.unknown[j] = f.unknown[j], f.unknown[i]
	})
	// What is asked lies in memory as it is asked, so that finding the question costs little, as when it was just received.
	for _, requests := range [][]validator.Request{f.requests, f.unknown} {
		for i := range requests {
			r := &requests[i]
			r.AppID, r.Token = strings.Clone(r.AppID), secret.New(strings.Clone(r.Token.Reveal()))
		}
	}
	return f
}

// TestTableIsSmall: what a token takes in memory, by the sizes of what is allocated.
func TestTableIsSmall(t *testing.T) {
	for perApp, most := range map[int]float64{1: 150, 10: 96, 100: 85} {
		if got := bytesPerToken(fill(t, 30_000, perApp), 30_000); got > most {
			t.Errorf("%d tokens an app: %.1f bytes a token, want at most %.0f", perApp, got, most)
		} else {
			t.Logf("%d tokens an app: %.1f bytes a token", perApp, got)
		}
	}
}

// BenchmarkDecision decides in process about one of many tokens after the other, in no order.
func BenchmarkDecision(b *testing.B) {
	f := fill(b, *benchTokens, *benchPerApp)
	for name, requests := range map[string][]validator.Request{"valid": f.requests, "unknown": f.unknown} {
		b.Run(name, func(b *testing.B) {
			want := policy.TokenValid
			if name == "unknown" {
				want = policy.TokenUnknown
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				answer, err := f.Authorize(b.Context(), requests[i%len(requests)])
				if err != nil || answer.Reason != want {
					b.Fatalf("%v, %v", answer, err)
				}
			}
		})
	}
	b.Run("collection", func(b *testing.B) {
		b.ReportMetric(bytesPerToken(f, *benchTokens), "B/token")
		cpu := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}}
		metrics.Read(cpu)
		before := cpu[0].Value.Float64()
		for b.Loop() {
			runtime.GC()
		}
		metrics.Read(cpu)
		b.ReportMetric((cpu[0].Value.Float64()-before)*1e3/float64(b.N), "CPU-ms/collection")
	})
	runtime.KeepAlive(f)
}

func bytesPerToken(f *full, tokens int) float64 {
	bytes := 0
	for i := range f.replica.Table().Len() {
		bytes += f.replica.Table().Partition(i).Bytes()
	}
	return float64(bytes) / float64(tokens)
}
