// Package bulk fills an empty Redis with a store of many tokens for measurements. It needs no authority, and
// writes what single CreateToken calls would have written, but no audit trail, since validators do not read
// it. This package is not part of the public API and may change in any release.
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

// Contents describe the store to make.
type Contents struct {
	// Apps is the number of apps, TokensPerApp the number of tokens of each app. Both are at least 1.
	Apps, TokensPerApp int
	// Enforced are the scopes that every app enforces.
	Enforced policy.ScopeSet
	// RevokedEvery revokes the last token of every n-th app; 0 revokes none.
	RevokedEvery int
	// LogLength is how many of the latest links of each partition are written; 0 is as many as an authority
	// keeps.
	LogLength int
	// Samples is about how many apps are returned, spread evenly. Each partition has at least one of them.
	Samples int
}

// Sample is one app of the store.
type Sample struct {
	AppID string
	// Secret is the secret of an ACTIVE token with the scopes EVENTS and SESSIONS. Revoked is the secret of a
	// revoked token; empty when the app has none.
	Secret, Revoked string
}

// Store is a filled store.
type Store struct {
	Codec   *record.Codec
	Samples []Sample
}

// Fill makes a store in an empty Redis, signed with the key ring.
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
