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
	"testing"
	"time"
	"unsafe"

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

// full is a validator with many tokens and without a store.
type full struct {
	*validator.Validator
	replica *replica.Replica
	// valid are questions with some of the tokens, unknown with secrets of no token, and malformed with
	// texts that are no secrets.
	valid, unknown, malformed questions
}

// questions is a list of texts: an app id of idLength characters and a token for each question.
type questions []byte

const (
	idLength = len("app-00000000")
	stride   = idLength + 52
)

// add appends a question.
func (q *questions) add(app, token string) { *q = append(append(*q, app...), token...) }

// swap exchanges two questions.
func (q questions) swap(i, j int) {
	var other [stride]byte
	copy(other[:], q[i*stride:][:stride])
	copy(q[i*stride:][:stride], q[j*stride:][:stride])
	copy(q[j*stride:], other[:])
}

// asker asks one question after the other, from one buffer. A server too has just written a question to
// memory when it decides. So the measured decision waits for the table and not for the question.
type asker struct {
	questions questions
	next      int
	received  [stride]byte
	token     string
	request   validator.Request
}

func newAsker(q questions) *asker {
	a := &asker{questions: q}
	a.token = unsafe.String(&a.received[idLength], stride-idLength)
	a.request = validator.Request{AppID: unsafe.String(&a.received[0], idLength), Token: secret.Of(&a.token), Scope: events}
	return a
}

// receive returns the next question. It is valid until the next call.
func (a *asker) receive() validator.Request {
	copy(a.received[:], a.questions[a.next:])
	if a.next += stride; a.next == len(a.questions) {
		a.next = 0
	}
	return a.request
}

// away is a store that does not answer.
type away struct{}

var errAway = errors.New("away")

func (away) Heads(context.Context) ([]replica.HeadRead, error) { return nil, errAway }
func (away) Tail(context.Context, int, uint64, int) ([]byte, []record.RawEntry, error) {
	return nil, nil, errAway
}
func (away) Documents(context.Context, int, func(string, []byte)) error { return errAway }
func (away) Watch(context.Context, func(int, []byte)) error             { return errAway }

// asked is how many different tokens the questions have. It is large enough that the processor's caches
// help as little as in production.
const asked = 1 << 17

// fill returns a validator with a number of tokens.
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
			if (n+i)%every == 0 && len(f.valid) < asked*stride {
				minted := secret.Mint()
				list[i].Digest = minted.Digest()
				f.valid.add(app, minted.Reveal())
				f.unknown.add(app, secret.Mint().Reveal())
				f.malformed.add(app, minted.Reveal()[:51]+"!")
			}
		}
		p, err := policy.New(policy.Enforcement{Scopes: policy.ScopesOf(events)}, list, false)
		if err != nil {
			t.Fatal(err)
		}
		c := &contents[codec.PartitionOf(app)]
		c.Apps = append(
			c.Apps, replica.App{ID: app, Entry: &table.Entry{Policy: p, Revision: uint64(n + 1), PolicyRevision: uint64(n + 1)}},
		)
		c.Sum = codec.Add(c.Sum, c.Partition, app, uint64(n+1))
	}
	for i := range contents {
		if err := f.replica.Import(contents[i]); err != nil {
			t.Fatal(err)
		}
		contents[i] = replica.Contents{}
	}
	// The validator decides after the first failed read of the store.
	ctx, stop := context.WithTimeout(context.Background(), 30*time.Second)
	ended := make(chan error, 1)
	go func() { ended <- f.replica.Run(ctx) }()
	err := f.replica.WaitLoaded(ctx)
	stop()
	if err := errors.Join(err, <-ended); err != nil {
		t.Fatal(err)
	}
	rand.Shuffle(len(f.valid)/stride, func(i, j int) {
		f.valid.swap(i, j)
		f.unknown.swap(i, j)
		f.malformed.swap(i, j)
	})
	return f
}

// TestTableIsSmall: a token takes little memory, by the sizes of the allocations.
func TestTableIsSmall(t *testing.T) {
	for perApp, most := range map[int]float64{1: 150, 10: 96, 100: 85} {
		if got := bytesPerToken(fill(t, 30_000, perApp), 30_000); got > most {
			t.Errorf("%d tokens an app: %.1f bytes a token, want at most %.0f", perApp, got, most)
		} else {
			t.Logf("%d tokens an app: %.1f bytes a token", perApp, got)
		}
	}
}

// BenchmarkDecision decides in process about many tokens, in random order.
func BenchmarkDecision(b *testing.B) {
	f := fill(b, *benchTokens, *benchPerApp)
	for _, bb := range []struct {
		name      string
		questions questions
		want      policy.Reason
	}{
		{"valid", f.valid, policy.TokenValid},
		{"unknown", f.unknown, policy.TokenUnknown},
		{"malformed", f.malformed, policy.TokenMalformed},
	} {
		b.Run(bb.name, func(b *testing.B) {
			ctx, asker := b.Context(), newAsker(bb.questions)
			b.ReportAllocs()
			for b.Loop() {
				answer, err := f.Authorize(ctx, asker.receive())
				if err != nil || answer.Reason != bb.want {
					b.Fatalf("%v, %v", answer, err)
				}
			}
		})
	}
	b.Run("none", func(b *testing.B) { // the cost of the benchmark itself
		asker := newAsker(f.valid)
		for b.Loop() {
			asker.receive()
		}
	})
	b.Run("hash", func(b *testing.B) { // the least cost without stored secrets
		minted := secret.Mint()
		for b.Loop() {
			minted.Digest()
		}
	})
	b.Run("collection", func(b *testing.B) {
		cpu := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}}
		metrics.Read(cpu)
		before := cpu[0].Value.Float64()
		for b.Loop() {
			runtime.GC()
		}
		metrics.Read(cpu)
		b.ReportMetric((cpu[0].Value.Float64()-before)*1e3/float64(b.N), "CPU-ms/collection")
		b.ReportMetric(bytesPerToken(f, *benchTokens), "B/token")
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
