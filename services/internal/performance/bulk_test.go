package performance

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/services/authority/store"
)

const (
	// bulkBatch is how many commands go to Redis at once.
	bulkBatch = 500
	// bulkSamples is how many apps of each partition are remembered.
	bulkSamples = 8
)

// bulk is a store that was written without an authority, as if its tokens had been created one by one: documents, heads,
// and of the log as much as is kept. The audit trail is left out, since validators do not read it.
type bulk struct {
	client *redisfeed.Client
	codec  *record.Codec
	// samples are some of the apps, each with the secret of a token.
	samples []bulkApp
}

type bulkApp struct{ id, secret string }

// writeBulk makes a store in an empty Redis, with so many apps of so many tokens.
func writeBulk(t testing.TB, client *redisfeed.Client, ring *keyring.Ring, apps, tokensPerApp int) *bulk {
	t.Helper()
	meta, _, err := store.Init(t.Context(), client, ring, record.DefaultPartitions)
	if err != nil {
		t.Fatal(err)
	}
	b := &bulk{client: client, codec: record.NewCodec(ring, meta)}
	ids := make([][]string, meta.Partitions)
	for i := range apps {
		id := fmt.Sprintf("app%09d", i)
		partition := b.codec.PartitionOf(id)
		ids[partition] = append(ids[partition], id)
	}
	samples := make([][]bulkApp, meta.Partitions)
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(runtime.GOMAXPROCS(0))
	for partition := range ids {
		group.Go(func() (err error) {
			samples[partition], err = b.writePartition(ctx, partition, ids[partition], tokensPerApp)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, some := range samples {
		b.samples = append(b.samples, some...)
	}
	return b
}

func (b *bulk) writePartition(ctx context.Context, partition int, ids []string, tokensPerApp int) (samples []bulkApp, err error) {
	keys := record.KeysOf(partition)
	var commands [][]any
	write := func(command ...any) error {
		if commands = append(commands, command); len(commands) < bulkBatch {
			return nil
		}
		defer func() { commands = commands[:0] }()
		return b.send(ctx, commands)
	}
	head := record.Head{Cursor: record.Cursor{Epoch: 1, Tag: record.NewTag()}, Policies: uint64(len(ids))}
	firstKept := uint64(max(len(ids)*tokensPerApp-store.LogLength, 0)) + 1
	var sum record.Sum
	for i, id := range ids {
		document := &record.Document{AppID: id, CreateMillis: time.Now().UnixMilli()}
		var text string
		for range tokensPerApp {
			link := &record.Link{
				AppID: id, PreviousTag: head.Tag, PreviousAppRevision: document.Revision,
				Cursor: record.Cursor{Epoch: 1, Revision: head.Revision + 1, Tag: record.NewTag()}, CommitMillis: time.Now().UnixMilli(),
			}
			var token record.Token
			token, text = mintToken(len(document.Tokens), link)
			link.Upserts = []record.Token{token}
			head.Cursor, document.Cursor, document.UpdateMillis = link.Cursor, link.Cursor, link.CommitMillis
			document.Tokens = append(document.Tokens, token)
			if link.Revision < firstKept {
				continue
			}
			raw, err := b.codec.SealLink(link)
			if err != nil {
				return nil, err
			}
			if err := write("XADD", keys.Log, fmt.Sprintf("%d-0", link.Revision), redisfeed.LinkField, raw); err != nil {
				return nil, err
			}
		}
		raw, err := b.codec.SealDocument(document)
		if err != nil {
			return nil, err
		}
		if err := write("HSET", keys.Policies, id, raw); err != nil {
			return nil, err
		}
		sum = sum.Plus(b.codec.Element(partition, id, document.Revision))
		if i < bulkSamples {
			samples = append(samples, bulkApp{id, text})
		}
	}
	head.State = b.codec.SealSum(partition, sum)
	raw, err := b.codec.SealHead(partition, head)
	if err != nil {
		return nil, err
	}
	return samples, b.send(ctx, append(commands, []any{"SET", keys.Head, raw}))
}

// mintToken returns a token as a call makes it by a link, and its secret.
func mintToken(n int, by *record.Link) (token record.Token, text string) {
	id := make([]byte, 10)
	_, _ = rand.Read(id) // never fails since Go 1.24
	minted := secret.Mint()
	return record.Token{
		Token: policy.Token{
			ID: "tok_" + tokenIDs.EncodeToString(id), Digest: minted.Digest(), Scopes: policy.ScopesOf(1, 2), State: policy.Active,
		},
		Name: fmt.Sprintf("Production backend %d", n), Hint: minted.Hint(), CreatedBy: "admin",
		CreateMillis: by.CommitMillis, UpdateMillis: by.CommitMillis, TouchedRevision: by.Revision,
	}, minted.Reveal()
}

var tokenIDs = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567")

func (b *bulk) send(ctx context.Context, commands [][]any) error {
	pipe := b.client.Pipeline()
	for _, command := range commands {
		pipe.Do(ctx, command...)
	}
	_, err := pipe.Exec(ctx)
	return err
}

// memory returns how many bytes Redis needs in all, for the documents, and for the logs.
func (b *bulk) memory(t testing.TB) (all, documents, logs int) {
	t.Helper()
	for partition := range record.DefaultPartitions {
		keys := record.KeysOf(partition)
		for key, sum := range map[string]*int{keys.Policies: &documents, keys.Log: &logs} {
			if must(b.client.Exists(t.Context(), key).Result())(t) == 1 {
				*sum += int(must(b.client.MemoryUsage(t.Context(), key, 0).Result())(t)) // 0: every element is measured
			}
		}
	}
	return readInfo(t, b.client, "memory", "used_memory"), documents, logs
}
