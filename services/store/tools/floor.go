package tools

import (
	"fmt"
	"time"

	"github.com/countersign/countersign/pkg/record"
)

// compareFloor compares the heads with the floor of an authority.
func (t *Tools) compareFloor(s *Status, codec *record.Codec, heads []*record.Head) {
	switch t.floor.StoreID {
	case "":
		return
	case codec.StoreID():
	default:
		s.warn("the floor file is of another store, %s", t.floor.StoreID)
		return
	}
	for i, floor := range t.floorOf(codec) {
		head := heads[i]
		if head == nil || floor == (record.Cursor{}) {
			continue
		}
		at := head.Cursor
		if at.Before(floor) || at.Conflicts(floor) {
			s.BelowFloor = append(s.BelowFloor, Finding{
				record.KeysOf(i).Head,
				fmt.Sprintf("is at %s, an authority has seen %s", at, floor),
			})
		}
	}
	if n := len(s.BelowFloor); n > 0 {
		partitions := "1 partition"
		if n > 1 {
			partitions = fmt.Sprintf("%d partitions", n)
		}
		s.warn("the store is below the floor in %s: it lost changes, or is an old copy; the first is %s", partitions,
			s.BelowFloor[0])
	}
}

// unusedAfter is the age from which on a store without any change is suspicious.
const unusedAfter = time.Hour

// unused reports whether a store that is not new has never had a change.
func unused(meta record.Meta, heads []*record.Head) bool {
	if time.Since(meta.CreateTime) < unusedAfter {
		return false
	}
	for _, head := range heads {
		if head == nil || head.Revision > 0 {
			return false
		}
	}
	return true
}
