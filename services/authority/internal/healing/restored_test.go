package healing

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/store"
)

// slowSource is a source whose reads of a large partition the test can make slow.
type slowSource struct {
	replica.Source
	slow atomic.Bool
}

func (s *slowSource) Documents(ctx context.Context, partition int, each func(string, []byte)) error {
	if s.slow.Load() {
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Second):
		}
	}
	return s.Source.Documents(ctx, partition, each)
}

// oneValidator is a fleet of one validator that has seen a change and does not report now.
type oneValidator struct{ seen record.Cursor }

func (f *oneValidator) Links(context.Context, int) [][]byte  { return nil }
func (f *oneValidator) Offer(context.Context, int, [][]byte) {}
func (f *oneValidator) Offered(int) [][]byte                 { return nil }
func (f *oneValidator) Settled(int, map[record.Tag]bool)     {}
func (f *oneValidator) Highest(int) []record.Cursor          { return []record.Cursor{f.seen} }
func (f *oneValidator) Present(int, time.Time) ([]record.Cursor, []string) {
	return []record.Cursor{f.seen}, []string{"v"}
}
func (f *oneValidator) Orphans(int, uint64) []record.Tag { return nil }

// TestB30_NoEpochIsHealedBeforeValidatorsReport: an authority is slow to load a restored store. It does not
// heal the new epoch from what it knew before, but waits for the validators.
func TestB30_NoEpochIsHealedBeforeValidatorsReport(t *testing.T) {
	const partitions, partition = 4, 0
	quiet := slog.New(slog.DiscardHandler)
	client := check.Must(redisfeed.Open(redistest.Start(t).URL(), redisfeed.Options{}))(t)
	t.Cleanup(func() { client.Close() })
	ring := keyring.Generate()
	meta, _, err := store.Init(t.Context(), client, ring, partitions)
	if err != nil {
		t.Fatal(err)
	}
	codec := record.NewCodec(ring, meta)
	source := &slowSource{Source: redisfeed.New(client, partitions)}
	r := replica.New(source, codec, quiet)
	r.Heals()
	go r.Run(t.Context())
	if err := r.WaitLoaded(t.Context()); err != nil {
		t.Fatal(err)
	}
	options := store.Options{Meta: check.Must(record.SealMeta(ring, meta))(t)}
	opened := store.New(store.Over(client, partitions, options), r, options, quiet)
	first, err := opened.Update(t.Context(), store.Call{
		AppID: appIn(codec, partition),
		Change: func(*record.Document) (*record.Document, error) {
			return &record.Document{Tokens: []record.Token{{Token: policy.Token{
				ID: "tok", Digest: secret.DigestOf("tok"),
				State: policy.Active,
			}, Name: "tok"}}}, nil
		},
		Event: &countersignv1.AuditEvent{Method: "made"},
		Answer: func(_ *record.Document, at record.Position) proto.Message {
			return &countersignv1.RevokeTokenResponse{ConsistencyToken: record.EncodePosition(at)}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Confirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	source.slow.Store(true)
	// Validator v has seen a change that no process can send.
	seen := record.Cursor{Epoch: 1, Revision: first.Position.Revision + 5, Tag: record.NewTag()}
	if err := client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	h := New(r, opened, NewMetrics(prometheus.NewRegistry()), quiet)
	go h.Run(t.Context(), &oneValidator{seen})
	for !r.Forked(partition) {
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(700 * time.Millisecond)
	if _, err := opened.Adopt(t.Context(), partition, []record.Cursor{seen},
		countersignv1.EpochCause_EPOCH_CAUSE_RESTORED); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for time.Since(began) < 2*time.Second {
		raw, err := client.Get(t.Context(), record.KeysOf(partition).Head).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		head, err := codec.OpenHead(partition, raw)
		if err != nil {
			t.Fatal(err)
		}
		if !head.Unhealed {
			t.Fatalf("healed %v after the restoration, though validator v has not reported since: %s", time.Since(began), head.Cursor)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// appIn returns the id of an app that lies in a partition.
func appIn(codec *record.Codec, partition int) string {
	for i := 0; ; i++ {
		if id := fmt.Sprint("app-", i); codec.PartitionOf(id) == partition {
			return id
		}
	}
}
