package bulk

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/secret"
)

// partition writes one partition.
type partition struct {
	Contents
	codec  *record.Codec
	number int
	keys   record.Keys
	to     pipe
}

// write writes the partition with the given apps, by their numbers, and returns the samples among them.
func (p *partition) write(ctx context.Context, apps []int) (samples []Sample, err error) {
	head := record.Head{Cursor: record.Cursor{Epoch: 1, Tag: record.NewTag()}, Policies: uint64(len(apps))}
	firstKept := uint64(max(len(apps)*p.TokensPerApp-p.LogLength, 0)) + 1
	wanted := max(p.Samples/p.codec.Partitions(), 1)
	stride := max(len(apps)/wanted, 1)
	var sum record.Sum
	for i, app := range apps {
		sample, revision, err := p.writeApp(ctx, app, &head, firstKept)
		if err != nil {
			return nil, err
		}
		sum = p.codec.Add(sum, p.number, sample.AppID, revision)
		if i%stride == 0 && len(samples) < wanted {
			samples = append(samples, sample)
		}
	}
	head.State = p.codec.SealSum(p.number, sum)
	raw, err := p.codec.SealHead(p.number, head)
	if err != nil {
		return nil, err
	}
	if err := p.to.add(ctx, "SET", p.keys.Head, raw); err != nil {
		return nil, err
	}
	return samples, p.to.flush(ctx)
}

// writeApp writes an app token by token and advances the head. It also returns the revision of the app's
// document.
func (p *partition) writeApp(ctx context.Context, app int, head *record.Head, firstKept uint64) (Sample, uint64, error) {
	sample := Sample{AppID: appID(app)}
	now := time.Now().UnixMilli()
	document := &record.Document{
		AppID: sample.AppID, CreateMillis: now, UpdateMillis: now, Enforcement: policy.Enforcement{Scopes: p.Enforced},
	}
	for n := range p.TokensPerApp {
		link := &record.Link{
			AppID: sample.AppID, PreviousTag: head.Tag, PreviousAppRevision: document.Revision, Enforcement: document.Enforcement,
			Cursor: record.Cursor{Epoch: 1, Revision: head.Revision + 1, Tag: record.NewTag()}, CommitMillis: now,
		}
		token, text := mint(n, link)
		if p.RevokedEvery > 0 && app%p.RevokedEvery == 0 && n == p.TokensPerApp-1 {
			token.State, token.RevokeMillis, sample.Revoked = policy.Revoked, now, text
		} else {
			sample.Secret = text
		}
		link.Upserts = []record.Token{token}
		head.Cursor, document.Cursor = link.Cursor, link.Cursor
		document.Tokens = append(document.Tokens, token)
		if link.Revision < firstKept {
			continue
		}
		raw, err := p.codec.SealLink(link)
		if err != nil {
			return sample, 0, err
		}
		if err := p.to.add(ctx, "XADD", p.keys.Log, fmt.Sprintf("%d-0", link.Revision), redisfeed.LinkField, raw); err != nil {
			return sample, 0, err
		}
	}
	raw, err := p.codec.SealDocument(document)
	if err != nil {
		return sample, 0, err
	}
	return sample, document.Revision, p.to.add(ctx, "HSET", p.keys.Policies, sample.AppID, raw)
}

// mint returns a token as CreateToken makes it, and its secret.
func mint(n int, by *record.Link) (token record.Token, text string) {
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
