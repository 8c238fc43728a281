package record_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// refusal reports whether an error is one that the codec promises for what it does not believe.
func refusal(err error) bool {
	return errors.Is(err, record.ErrMalformed) || errors.Is(err, keyring.ErrMismatch) || errors.Is(err, keyring.ErrUnknownKey)
}

func TestRecordWithAnyBitFlippedDoesNotOpen(t *testing.T) {
	c, ring := newCodec(t), fixedRing(t)
	app := appIn(c, 5, 0)
	for _, r := range oneOfEach(t, c, app) {
		t.Run(r.kind, func(t *testing.T) {
			if err := opens(c, ring, r.kind, r.partition, app, r.raw); err != nil {
				t.Fatalf("whole: %v", err)
			}
			for bit := range 8 * len(r.raw) {
				flipped := bytes.Clone(r.raw)
				flipped[bit/8] ^= 1 << (bit % 8)
				if err := opens(c, ring, r.kind, r.partition, app, flipped); !refusal(err) {
					t.Errorf("bit %d flipped: %v", bit, err)
				}
			}
		})
	}
}

func TestCutOrLengthenedRecordDoesNotOpen(t *testing.T) {
	c, ring := newCodec(t), fixedRing(t)
	app := appIn(c, 5, 0)
	for _, r := range oneOfEach(t, c, app) {
		for n := range r.raw {
			if err := opens(c, ring, r.kind, r.partition, app, r.raw[:n]); !refusal(err) {
				t.Errorf("%s cut to %d bytes: %v", r.kind, n, err)
			}
		}
		for _, more := range []string{"\x00", "x", "\x1a\x00", "\x12\x00", "\x0a\x00"} {
			if err := opens(c, ring, r.kind, r.partition, app, append(bytes.Clone(r.raw), more...)); !refusal(err) {
				t.Errorf("%s with %q behind: %v", r.kind, more, err)
			}
		}
	}
}

func TestRecordOpensOnlyAsWhatItIs(t *testing.T) {
	c, ring := newCodec(t), fixedRing(t)
	app := appIn(c, 5, 0)
	neighbour, stranger := appIn(c, 5, 1), appIn(c, 6, 0)
	otherStore := record.NewCodec(ring, record.Meta{StoreID: storeID[1:] + "0", Partitions: 64})
	otherKeys := keyring.Generate()
	for _, r := range oneOfEach(t, c, app) {
		for _, kind := range record.Kinds {
			if err := opens(c, ring, kind, r.partition, app, r.raw); (err == nil) != (kind == r.kind) {
				t.Errorf("%s as %s: %v", r.kind, kind, err)
			}
			// Nor does a payload that is right, but was signed as something else.
			other := c.SealRaw(kind, r.partition, payloadOf(t, r.raw))
			if err := opens(c, ring, r.kind, r.partition, app, other); kind != r.kind && !errors.Is(err, keyring.ErrMismatch) {
				t.Errorf("%s that was signed as %s: %v", r.kind, kind, err)
			}
		}
		if r.kind == "policy" {
			for _, other := range []string{neighbour, stranger, ""} {
				if err := opens(c, ring, r.kind, r.partition, other, r.raw); !refusal(err) {
					t.Errorf("policy under %q: %v", other, err)
				}
			}
		} else if r.kind != "meta" {
			for _, other := range []int{0, 4, 6, 255, 5 + 256} {
				if err := opens(c, ring, r.kind, other, app, r.raw); !refusal(err) {
					t.Errorf("%s in partition %d: %v", r.kind, other, err)
				}
			}
		}
		if r.kind != "meta" {
			if err := opens(otherStore, ring, r.kind, r.partition, app, r.raw); !errors.Is(err, keyring.ErrMismatch) {
				t.Errorf("%s in another store: %v", r.kind, err)
			}
		}
		foreign := record.NewCodec(otherKeys, record.Meta{StoreID: storeID, Partitions: 64})
		if err := opens(foreign, otherKeys, r.kind, r.partition, app, r.raw); !errors.Is(err, keyring.ErrUnknownKey) {
			t.Errorf("%s with other keys: %v, want ErrUnknownKey", r.kind, err)
		}
	}
}

// TestRecordsOutliveAPromotedKey: what the previous key has signed opens while the ring still holds it.
func TestRecordsOutliveAPromotedKey(t *testing.T) {
	c, app := newCodec(t), "app1"
	rings := [2]*keyring.Ring{}
	for i, current := range []string{"a", "b"} {
		ring, err := keyring.Parse(fmt.Appendf(nil,
			`{"current":%q,"keys":{"a":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",`+
				`"b":"cHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHA="}}`, current))
		if err != nil {
			t.Fatal(err)
		}
		rings[i] = ring
	}
	meta := record.Meta{StoreID: storeID, Partitions: 64}
	before, after := record.NewCodec(rings[0], meta), record.NewCodec(rings[1], meta)
	for _, r := range oneOfEach(t, before, app) {
		if r.kind == "meta" { // sealed with the fixed ring
			continue
		}
		if err := opens(after, rings[1], r.kind, c.PartitionOf(app), app, r.raw); err != nil {
			t.Errorf("%s after its key was followed by another: %v", r.kind, err)
		}
	}
	first, tail, err := before.SealAudit(1, record.AuditTail{}, &countersignv1.AuditEvent{AppId: app})
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := after.SealAudit(1, tail, &countersignv1.AuditEvent{AppId: app})
	if err != nil {
		t.Fatal(err)
	}
	_, opened, err := after.OpenAudit(1, record.AuditTail{}, first)
	if err != nil {
		t.Fatalf("audit row of before: %v", err)
	}
	if _, _, err := after.OpenAudit(1, opened, second); err != nil {
		t.Errorf("audit row of after: %v", err)
	}
}

// TestPayloadThatDoesNotFitItsKindIsMalformed although it was signed.
func TestPayloadThatDoesNotFitItsKindIsMalformed(t *testing.T) {
	c, ring := newCodec(t), fixedRing(t)
	app := appIn(c, 5, 0)
	for _, kind := range record.Kinds {
		// In each kind field 1 to 5 has some other type than that of a group's end, which no message has.
		for _, payload := range []string{"\x0c", "\xff", "\x0a\x05abc", "\x08"} {
			partition := 5
			codec := c
			if kind == "meta" {
				partition, codec = 0, record.NewCodec(ring, record.Meta{})
			}
			if err := opens(c, ring, kind, partition, app, codec.SealRaw(kind, partition, []byte(payload))); !errors.Is(err,
				record.ErrMalformed) {
				t.Errorf("%s of %q: %v, want ErrMalformed", kind, payload, err)
			}
		}
	}
	// An empty payload is a message with no field set, and none of these can do without.
	for _, kind := range record.Kinds {
		partition, codec := 5, c
		if kind == "meta" {
			partition, codec = 0, record.NewCodec(ring, record.Meta{})
		}
		if err := opens(c, ring, kind, partition, app, codec.SealRaw(kind, partition, nil)); !errors.Is(err, record.ErrMalformed) {
			t.Errorf("empty %s: %v", kind, err)
		}
	}
}

func TestNothingUnsealedOpens(t *testing.T) {
	c, ring := newCodec(t), fixedRing(t)
	app := appIn(c, 5, 0)
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.SliceOf(rapid.Byte()).Draw(t, "raw")
		for _, kind := range record.Kinds {
			if err := opens(c, ring, kind, 5, app, raw); !refusal(err) {
				t.Fatalf("%s: %v", kind, err)
			}
		}
	})
}
