// Package bulk fills an empty Redis with a store of many tokens, for measurements: without an authority, and
// as if the tokens had been created one by one. The audit trail is left out, since validators do not read it.
// This package is not part of the public API and may change in any release.
package bulk

import (
	"context"
	"fmt"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/services/store"
)

// Contents say what a store is filled with.
type Contents struct {
	// Apps is how many apps there are, TokensPerApp how many tokens each of them has; both are at least 1.
	Apps, TokensPerApp int
	// Enforced is what every app enforces.
	Enforced policy.ScopeSet
	// RevokedEvery makes the last token of every so manieth app a revoked one; 0 is none.
	RevokedEvery int
	// LogLength is how many links of each partition are written, the latest; 0 is as many as an authority
	// keeps.
	LogLength int
	// Samples is about how many apps are remembered, spread evenly; each partition has at least one of them.
	Samples int
}

// Sample is one of the apps.
type Sample struct {
	AppID string
	// Secret is that of an ACTIVE token with the scopes EVENTS and SESSIONS, Revoked that of a revoked
	// token; empty when the app has none.
	Secret, Revoked string
}

// Store is a store that was filled.
type Store struct {
	Codec   *record.Codec
	Samples []Sample
}

// Fill makes a store of a key ring in an empty Redis.
func Fill(ctx context.Context, client *redisfeed.Client, ring *keyring.Ring, c Contents) (*Store, error) {
	if c.Apps < 1 || c.TokensPerApp < 1 {
		return nil, fmt.Errorf("bulk: %d apps of %d tokens: want at least one of each", c.Apps, c.TokensPerApp)
	}
	if c.LogLength == 0 {
		c.LogLength = store.LogLength
	}
	meta, _, err := store.Init(ctx, client, ring, record.DefaultPartitions)
	if err != nil {
		return nil, err
	}
	s := &Store{Codec: record.NewCodec(ring, meta)}
	apps := make([][]int, meta.Partitions)
	for i := range c.Apps {
		partition := s.Codec.PartitionOf(appID(i))
		apps[partition] = append(apps[partition], i)
	}
	samples := make([][]Sample, meta.Partitions)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for number := range apps {
		group.Go(func() (err error) {
			p := partition{Contents: c, codec: s.Codec, number: number, keys: record.KeysOf(number), to: pipe{client: client}}
			samples[number], err = p.write(ctx, apps[number])
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for _, some := range samples {
		s.Samples = append(s.Samples, some...)
	}
	return s, nil
}

// appID returns the id of an app by its number.
func appID(number int) string { return fmt.Sprintf("app%09d", number) }

// batch is how many commands go to Redis at once.
const batch = 500

// pipe sends commands in batches.
type pipe struct {
	client   *redisfeed.Client
	commands [][]any
}

func (p *pipe) add(ctx context.Context, command ...any) error {
	if p.commands = append(p.commands, command); len(p.commands) < batch {
		return nil
	}
	return p.flush(ctx)
}

func (p *pipe) flush(ctx context.Context) error {
	line := p.client.Pipeline()
	for _, command := range p.commands {
		line.Do(ctx, command...)
	}
	p.commands = p.commands[:0]
	_, err := line.Exec(ctx)
	return err
}
