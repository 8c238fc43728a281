package record_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/secret"
)

// many returns a document with a number of tokens.
func many(n int, change func(*record.Token)) *record.Document {
	d := &record.Document{AppID: "app", Cursor: record.Cursor{Epoch: 1, Revision: 7, Tag: record.Tag{1}}}
	for i := range n {
		id := fmt.Sprintf("tok_%016d", i)
		t := record.Token{Token: policy.Token{ID: id, Digest: secret.DigestOf(id), State: policy.Revoked}}
		if change != nil {
			change(&t)
		}
		d.Tokens = append(d.Tokens, t)
	}
	return d
}

// remembering is a memory of a number of digests.
func remembering(tb testing.TB, n int) policy.Memory {
	tb.Helper()
	var prefixes []byte
	for i := range n {
		prefixes = binary.BigEndian.AppendUint64(prefixes, uint64(i)<<40|0xabcdef)
	}
	m, err := policy.MemoryOf(prefixes, false)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// TestB08_WhatDoesNotOpenIsNotSealed: an app whose document does not open could never be changed again.
func TestB08_WhatDoesNotOpenIsNotSealed(t *testing.T) {
	c := newCodec(t)
	twins := many(2, nil)
	twins.Tokens[1].Digest = twins.Tokens[0].Digest
	long := many(1, nil)
	long.Tokens[0].Note = strings.Repeat("x", record.MaxDocument)
	for name, tt := range map[string]struct {
		d    *record.Document
		says string
	}{
		"too many tokens":          {many(policy.MaxTokens+1, nil), "65536 tokens, want at most 65535"},
		"two with one digest":      {twins, "digest"},
		"an unknown state":         {many(1, func(t *record.Token) { t.State = 9 }), "state"},
		"a token without an id":    {many(1, func(t *record.Token) { t.ID = "" }), "id"},
		"too many bytes":           {long, "bytes, want at most 67108864"},
		"a text that is not UTF-8": {many(1, func(t *record.Token) { t.Note = "\xff" }), ""},
	} {
		raw, err := c.SealDocument(tt.d)
		if raw != nil || err == nil || !strings.Contains(err.Error(), tt.says) || tt.says != "" &&
			!errors.Is(err, record.ErrLimit) {
			t.Errorf("%s: %d bytes, %v", name, len(raw), err)
		}
	}
	l := record.LinkBetween(record.Tag{2}, nil, many(1, nil))
	l.Tag = record.Tag{}
	l.Epoch = 0
	if raw, err := c.SealLink(l); raw != nil || !errors.Is(err, record.ErrLimit) {
		t.Errorf("a link that does not open: %d bytes, %v", len(raw), err)
	}
}

// TestB08_WhatTheRulesAllowFits: a document fits twice the tokens that the rules allow, all with the longest
// texts.
func TestB08_WhatTheRulesAllowFits(t *testing.T) {
	c := newCodec(t)
	name, note := strings.Repeat("語", 100), strings.Repeat("語", 1000)
	d := many(2*6000, func(t *record.Token) {
		t.Name, t.Note, t.CreatedBy, t.PredecessorID, t.SuccessorID = name, note, name, "tok_aaaaaaaaaaaaaaaa",
			"tok_bbbbbbbbbbbbbbbb"
	})
	d.Memory = remembering(t, policy.MaxMemory)
	raw, err := c.SealDocument(d)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", len(raw))
}

// TestB08_RememberingIsCheap: a link has 8 bytes for each newly remembered digest, and none for the others.
func TestB08_RememberingIsCheap(t *testing.T) {
	c := newCodec(t)
	before, after := many(3, nil), many(2, nil)
	before.Memory = remembering(t, 100_000)
	after.Memory = before.Memory.With(before.Tokens[2].Token)
	link := record.LinkBetween(record.Tag{2}, before, after)
	raw, err := c.SealLink(link)
	if err != nil || len(raw) > 250 {
		t.Errorf("the link has %d bytes, %v", len(raw), err)
	}
	if got := link.ApplyTo(before); got.Memory != after.Memory || len(got.Tokens) != 2 {
		t.Errorf("it makes %d tokens and remembers %d digests", len(got.Tokens), got.Memory.Len())
	}
	p, err := before.Policy()
	if err != nil {
		t.Fatal(err)
	}
	p, err = link.Apply(p)
	if err != nil || !p.Revokes(&before.Tokens[2].Token) {
		t.Errorf("the policy has forgotten it: %v", err)
	}
}

// BenchmarkSealRemembering seals the document of an app that remembers many digests, with the check that it
// opens.
func BenchmarkSealRemembering(b *testing.B) {
	c := newCodec(b)
	for _, n := range []int{0, 36_500, 365_000, 1_000_000} {
		d := many(1000, func(t *record.Token) { t.State = policy.Active })
		d.Memory = remembering(b, n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var raw []byte
			for b.Loop() {
				var err error
				if raw, err = c.SealDocument(d); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(raw)), "bytes")
		})
	}
}
