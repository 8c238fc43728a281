package tools

import (
	"context"
	"fmt"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
)

// sightings are how far validators and an authority have seen a store.
type sightings struct {
	validators []*record.Validator
	// floor is what an authority has seen; known is the higher of floor and head. Both are by partition.
	floor, known []record.Cursor
}

// sightingsOf reads the validators' reports and the heads.
func (t *Tools) sightingsOf(ctx context.Context, codec *record.Codec) (*sightings, error) {
	s := &sightings{floor: t.floorOf(codec), known: t.floorOf(codec)}
	var err error
	if s.validators, err = t.fleet(ctx, codec); err != nil && !redisfeed.IsWrongType(err) {
		return nil, err
	}
	heads, err := t.readHeads(ctx, codec)
	if err != nil {
		return nil, err
	}
	for i, read := range heads {
		if head, err := codec.OpenHead(i, read.Raw); err == nil {
			s.known[i] = record.Highest(s.known[i], head.Cursor)
		}
	}
	return s, nil
}

// beyond returns what was seen of a partition beyond a state in which every change up to reach is known; nil
// for nothing. Highest is the furthest position in any signed record of the partition.
func (s *sightings) beyond(partition int, reach, highest record.Cursor) *Loss {
	known := append([]record.Cursor{}, s.known...)
	known[partition] = record.Highest(known[partition], highest)
	tops, _ := furthest(s.validators, known)
	top, byAuthority := tops[partition], false
	if floor := s.floor[partition]; !floor.Before(top) && floor.Epoch > 0 {
		top, byAuthority = floor, true
	}
	if !lacks(reach, top) {
		return nil
	}
	l := &Loss{Partition: partition, Epoch: top.Epoch, From: 1, To: top.Revision, byAuthority: byAuthority}
	if top.Epoch == reach.Epoch {
		l.From = min(reach.Revision+1, top.Revision)
	}
	return l
}

// lacks reports whether a state lacks a position: the position is further, or of another history. A reach
// without a tag does not tell the history of its latest change.
func lacks(reach, at record.Cursor) bool {
	fork := at.Conflicts(reach) && reach.Tag != record.Tag{}
	return fork || reach.Before(at)
}

// equal reports whether two losses are the same.
func (l *Loss) equal(other *Loss) bool {
	if l == nil || other == nil {
		return l == other
	}
	return *l == *other
}

// refusal explains why a partition with a loss is not repaired.
func (l *Loss) refusal(reach record.Cursor) string {
	who := "validators have"
	if l.byAuthority {
		who = "an authority has"
	}
	return fmt.Sprintf("%s seen revision %d of epoch %d, and the records that are left prove only revision %d of epoch %d: "+
		"give --from "+
		"with a later backup or a validator's snapshot, "+
		"let running validators and an authority heal it, or give up what is lost with --accept-loss", who, l.To, l.Epoch,
		reach.Revision, reach.Epoch)
}
