package record_test

import (
	"errors"
	"testing"

	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// TestCeilingOfPositions: a record with a position beyond MaxPosition is never sealed, and does not open even
// if it is signed. Records at MaxPosition open.
func TestCeilingOfPositions(t *testing.T) {
	c := newCodec(t)
	app := appIn(c, 5, 0)
	tag, digest := make([]byte, 16), make([]byte, 32)
	const over = record.MaxPosition + 1
	for _, tt := range []struct {
		name            string
		epoch, revision uint64
		good            bool
	}{
		{"the highest revision", 1, record.MaxPosition, true},
		{"the highest epoch", record.MaxPosition, 1, true},
		{"a revision beyond", 1, over, false},
		{"an epoch beyond", over, 1, false},
		{"the greatest revision of 64 bits", 1, 1<<64 - 1, false},
		{"the greatest epoch of 64 bits", 1<<64 - 1, 1, false},
		{"no epoch", 0, 1, false},
	} {
		at := record.Cursor{Epoch: tt.epoch, Revision: tt.revision}
		check := func(what string, err error) {
			t.Helper()
			if tt.good && err != nil || !tt.good && !errors.Is(err, record.ErrMalformed) {
				t.Errorf("%s of %s: %v", what, tt.name, err)
			}
		}
		_, err := c.SealHead(5, record.Head{Cursor: at})
		check("sealing the head", err)
		_, err = c.SealLink(&record.Link{AppID: app, Cursor: at})
		check("sealing the link", err)
		_, err = c.SealEpoch(5, record.EpochStart{Cursor: at})
		check("sealing the start", err)
		_, err = c.SealDocument(&record.Document{AppID: app, Cursor: at})
		check("sealing the document", err)

		_, err = c.OpenHead(5, sealMessage(t, c, "head", 5, &countersignv1.Head{
			Epoch: tt.epoch, Revision: tt.revision,
			Tag: tag, StateDigest: digest,
		}))
		check("the head", err)
		_, err = c.OpenHead(5, sealMessage(t, c, "head", 5, &countersignv1.Head{
			Epoch: 1, Revision: 1, Tag: tag, StateDigest: digest,
			Forks: []*countersignv1.Fork{{Epoch: tt.epoch, Revision: tt.revision, Tag: tag}},
		}))
		check("the earlier end in a head", err)
		_, err = c.OpenLink(5, sealMessage(t, c, "link", 5, &countersignv1.Link{
			AppId: app, Epoch: tt.epoch,
			Revision: tt.revision, Tag: tag, PreviousTag: tag,
		}))
		check("the link", err)
		_, err = c.OpenEpoch(5, sealMessage(t, c, "epoch", 5,
			&countersignv1.EpochStart{Epoch: tt.epoch, Revision: tt.revision, Tag: tag}))
		check("the start of an epoch", err)
		_, err = c.OpenEpoch(5, sealMessage(t, c, "epoch", 5, &countersignv1.EpochStart{
			Epoch: 1, Revision: 1, Tag: tag, Previous: &countersignv1.Fork{Epoch: tt.epoch, Revision: tt.revision, Tag: tag},
		}))
		check("the end before a start", err)
		_, _, err = c.OpenPolicy(app, sealMessage(t, c, "policy", 5, &countersignv1.PolicyDocument{
			AppId: app, Epoch: tt.epoch, Revision: tt.revision, Tag: tag, Policy: &countersignv1.Policy{},
			Details: &countersignv1.PolicyDetails{},
		}))
		check("the document", err)
		position := &countersignv1.Position{Epoch: tt.epoch, Revision: tt.revision, Tag: tag}
		_, err = c.OpenValidator("a", sealMessage(t, c, "validator", 0, &countersignv1.ValidatorRecord{
			ValidatorId: "a", Cursors: []*countersignv1.Position{position},
		}))
		check("the fleet's record", err)
		_, err = c.OpenNews(sealMessage(t, c, "fleet-news", 0, &countersignv1.FleetNews{
			Records: []*countersignv1.ValidatorRecord{{ValidatorId: "a", Cursors: []*countersignv1.Position{position}}},
		}))
		check("the fleet's news", err)
		_, err = record.DecodePosition(record.EncodePosition(record.Position{StoreID: storeID, Cursor: at}))
		check("the consistency token", err)
		_, err = record.NewCursor(tt.epoch, tt.revision, tag)
		check("the report", err)
	}
}

// TestCeilingOfAuditRows: the number of the last row is a position too.
func TestCeilingOfAuditRows(t *testing.T) {
	c := newCodec(t)
	head := record.Head{Cursor: record.Cursor{Epoch: 1}, Audit: record.AuditTail{Sequence: record.MaxPosition}}
	raw, err := c.SealHead(5, head)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.OpenHead(5, raw); err != nil {
		t.Error(err)
	}
	head.Audit.Sequence++
	if _, err := c.SealHead(5, head); !errors.Is(err, record.ErrMalformed) {
		t.Errorf("sealing: %v", err)
	}
	raw = sealMessage(t, c, "head", 5, &countersignv1.Head{
		Epoch: 1, Tag: make([]byte, 16), StateDigest: make([]byte, 32), AuditSequence: record.MaxPosition + 1,
	})
	if _, err := c.OpenHead(5, raw); !errors.Is(err, record.ErrMalformed) {
		t.Errorf("opening: %v", err)
	}
}

// TestPlausiblePositions: an unproven position is plausible up to MaxJump beyond the known one, in epoch and
// in revision.
func TestPlausiblePositions(t *testing.T) {
	known := record.Cursor{Epoch: 3, Revision: 50}
	for _, tt := range []struct {
		epoch, revision uint64
		want            bool
	}{
		{1, 0, true},
		{3, 50, true},
		{3, 50 + record.MaxJump, true},
		{3 + record.MaxJump, 0, true},
		{3, 51 + record.MaxJump, false},
		{4 + record.MaxJump, 0, false},
		{3, record.MaxPosition, false},
		{record.MaxPosition, 1, false},
	} {
		if got := (record.Cursor{Epoch: tt.epoch, Revision: tt.revision}).Plausible(known); got != tt.want {
			t.Errorf("%d/%d: %t", tt.epoch, tt.revision, got)
		}
	}
}
