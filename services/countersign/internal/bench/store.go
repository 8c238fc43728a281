package bench

import (
	"context"
	"fmt"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/services/countersign/internal/bench/process"
	"github.com/countersign/countersign/services/countersign/internal/bench/serve"
	"github.com/countersign/countersign/services/store/bulk"
	"github.com/countersign/countersign/services/store/embedded"
)

const (
	// revokedEvery is how often an app has a revoked token.
	revokedEvery = 8
	// logLength is how many links of each partition are written; a validator loads documents.
	logLength = 100
)

// startRedis starts a Redis, or the embedded one where there is none.
func (a *arena) startRedis(ctx context.Context) (err error) {
	if !process.HasRedis() {
		if a.embedded, err = embedded.Start(); err == nil {
			a.url = a.embedded.URL
		}
		return err
	}
	if a.redis, err = process.NewRedis(ctx, a.folder, a.place.others); err == nil {
		a.url = a.redis.URL
	}
	return err
}

// fill writes the tokens.
func (a *arena) fill(ctx context.Context) error {
	client, err := redisfeed.Open(a.url, redisfeed.Options{})
	if err != nil {
		return err
	}
	defer client.Close()
	fmt.Fprintf(a.options.Progress, "Writing %d tokens, %d an app\n", a.options.Tokens, a.options.TokensPerApp)
	if a.store, err = bulk.Fill(ctx, client, a.ring, bulk.Contents{
		Apps: max(a.options.Tokens/a.options.TokensPerApp, 1), TokensPerApp: a.options.TokensPerApp,
		Enforced: policy.ScopesOf(1), RevokedEvery: revokedEvery, LogLength: logLength, Samples: deckSize,
	}); err != nil {
		return err
	}
	if a.embedded != nil {
		return nil
	}
	return a.fillLookups(ctx, client)
}

// fillLookups writes what the leg that asks Redis reads, for the apps that are asked about.
func (a *arena) fillLookups(ctx context.Context, client *redisfeed.Client) error {
	const batch = 200
	for start := 0; start < len(a.store.Samples); start += batch {
		some := a.store.Samples[start:min(start+batch, len(a.store.Samples))]
		read := client.Pipeline()
		raws := make([]interface{ Bytes() ([]byte, error) }, len(some))
		for i, sample := range some {
			raws[i] = read.HGet(ctx, record.KeysOf(a.store.Codec.PartitionOf(sample.AppID)).Policies, sample.AppID)
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
			document, err := a.store.Codec.OpenDocument(sample.AppID, raw)
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
