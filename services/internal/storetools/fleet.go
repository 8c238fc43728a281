package storetools

import (
	"context"
	"maps"
	"slices"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/services/authority/store"
)

// verifyFleet proves the records of the validators, and that none of the list is missing.
func (t *Tools) verifyFleet(ctx context.Context, codec *record.Codec, find func(where, format string, args ...any)) error {
	raw, err := store.NewFleet(t.client).Read(ctx)
	if redisfeed.IsWrongType(err) {
		find(record.FleetKey, "is no hash: an authority that runs takes it away within a second, and writes the fleet anew")
		return nil
	}
	if err != nil {
		return err
	}
	list, listed := &record.Members{}, raw[record.MembersField]
	if listed != "" { // authorities of earlier releases write none
		if list, err = codec.OpenMembers([]byte(listed)); err != nil {
			find(record.FleetKey, "the list of the validators does not verify: an authority that runs writes it anew within a second: %v", err)
			list = &record.Members{}
		}
	}
	delete(raw, record.MembersField)
	found := map[string]*record.Validator{}
	for _, field := range slices.Sorted(maps.Keys(raw)) {
		if found[field], err = codec.OpenValidator(field, []byte(raw[field])); err != nil {
			name := record.FieldName(field)
			find(record.FleetKey+" "+name, "does not verify: no receipt is complete while it is there. If it is none of your validators: countersign fleet forget %s (%v)", name, err)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(list.Entries)) {
		// A field that does not verify was told already.
		if v, there := found[id]; !there || v != nil && list.Entries[id].Newer(v) {
			find(record.FleetKey+" "+id, "is in the list of the validators, and its record is missing or an older one: receipts name it until it reports. If it does not run any more: countersign fleet forget %s", id)
		}
	}
	return nil
}
