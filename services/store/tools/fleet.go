package tools

import (
	"context"
	"maps"
	"slices"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
)

// verifyFleet proves the records of validators, and that no listed validator lacks its record.
func (t *Tools) verifyFleet(ctx context.Context, codec *record.Codec, find func(where, format string, args ...any)) error {
	raw, err := t.readFleet(ctx)
	if redisfeed.IsWrongType(err) {
		find(record.FleetKey, "is no hash: an authority that runs takes it away within a second, and writes the fleet anew")
		return nil
	}
	if err != nil {
		return err
	}
	list, listed := &record.Members{}, raw[record.MembersField]
	if listed != "" || codec.Meta().MembersListed { // a store of an earlier release may have none
		if list, err = codec.OpenMembers([]byte(listed)); err != nil {
			find(record.FleetKey, "the list of the validators is missing or does not verify: an authority that remembers it writes "+
				"it back within a second. When none does, compare `countersign fleet list` with the validators that run, then: "+
				"countersign fleet forget %s (%v)", record.UnknownMembers, err)
			list = &record.Members{}
		}
	}
	delete(raw, record.MembersField)
	found := map[string]*record.Validator{}
	for _, field := range slices.Sorted(maps.Keys(raw)) {
		if found[field], err = codec.OpenValidator(field, []byte(raw[field])); err != nil {
			name := record.FieldName(field)
			find(record.FleetKey+" "+name, "does not verify: no receipt is complete while it is there. If it is none of your "+
				"validators: countersign fleet forget %s (%v)", name, err)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(list.Entries)) {
		// A field that does not verify is already a finding.
		if v, there := found[id]; !there || v != nil && list.Entries[id].Newer(v) {
			find(record.FleetKey+" "+id, "is in the list of the validators, and its record is missing or an older one: receipts "+
				"name it until it reports. If it does not run any more: countersign fleet forget %s", id)
		}
	}
	return nil
}
