package testbed

import (
	"context"
	"fmt"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/services/benchmark/internal/process"
	"github.com/countersign/countersign/services/benchmark/internal/serve"
	"github.com/countersign/countersign/services/store/bulk"
	"github.com/countersign/countersign/services/store/embedded"
)

const (
	// One of this many apps has a revoked token.
	revokedEvery = 8
	// logLength is the number of links in the log of each partition. It is small, because a validator loads
	// documents and not the log.
	logLength = 100
)

// startRedis starts a Redis server. Without a redis-server on the PATH it starts the embedded store instead.
func (t *Testbed) startRedis(ctx context.Context) (err error) {
	if !process.HasRedis() {
		if t.embedded, err = embedded.Start(); err == nil {
			t.url = t.embedded.URL
		}
		return err
	}
	if t.redis, err = process.NewRedis(ctx, t.folder, t.processors.others); err == nil {
		t.url = t.redis.URL
	}
	return err
}

// fill writes the tokens into the store.
func (t *Testbed) fill(ctx context.Context) error {
	client, err := redisfeed.Open(t.url, redisfeed.Options{})
	if err != nil {
		return err
	}
	defer client.Close()
	fmt.Fprintf(t.options.Progress, "Writing %d tokens, %d an app\n", t.options.Tokens, t.options.TokensPerApp)
	if t.store, err = bulk.Fill(ctx, client, t.ring, bulk.Contents{
		Apps: max(t.options.Tokens/t.options.TokensPerApp, 1), TokensPerApp: t.options.TokensPerApp,
		Enforced: policy.ScopesOf(1), RevokedEvery: revokedEvery, LogLength: logLength, Samples: deckSize,
	}); err != nil {
		return err
	}
	if t.embedded != nil {
		return nil
	}
	return t.fillLookups(ctx, client)
}

// fillLookups writes the policies that the lookup servers read. It writes only the policies of the sample
// apps, because all questions are about them.
func (t *Testbed) fillLookups(ctx context.Context, client *redisfeed.Client) error {
	const batch = 200
	for start := 0; start < len(t.store.Samples); start += batch {
		some := t.store.Samples[start:min(start+batch, len(t.store.Samples))]
		read := client.Pipeline()
		raws := make([]interface{ Bytes() ([]byte, error) }, len(some))
		for i, sample := range some {
			raws[i] = read.HGet(ctx, record.KeysOf(t.store.Codec.PartitionOf(sample.AppID)).Policies, sample.AppID)
		}
		if _, err := read.Exec(ctx); err != nil {
			return err
		}
		write := client.Pipeline()
		for i, sample := range some {
			raw, err := raws[i].Bytes()
			if err != nil {
				return err
			}
			document, err := t.store.Codec.OpenDocument(sample.AppID, raw)
			if err != nil {
				return err
			}
			lean, err := serve.LookupPolicy(document)
			if err != nil {
				return err
			}
			write.Set(ctx, serve.LookupKey(sample.AppID), lean, 0)
		}
		if _, err := write.Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}
