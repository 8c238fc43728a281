package record

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/countersign/countersign/pkg/visible"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// MembersField is the field of FleetKey that holds the list of members. No validator can have this name.
const MembersField = "\x00members"

// UnknownMembers stands in receipts and listings for validators that may exist unseen: the list of members is
// missing or cannot be read. No validator can join under this name.
const UnknownMembers = "unknown-members"

// MaxValidatorIDLength bounds the characters of a validator's name.
const MaxValidatorIDLength = 100

// ValidValidatorID reports whether a text can be a validator's name.
func ValidValidatorID(id string) bool {
	return id != "" && utf8.RuneCountInString(id) <= MaxValidatorIDLength && strings.TrimSpace(id) == id && visible.Name(id)
}

// FieldName returns a printable name for a field of FleetKey: the field itself, or a part of its digest when
// no validator can have that name.
func FieldName(field string) string {
	if ValidValidatorID(field) {
		return field
	}
	sum := sha256.Sum256([]byte(field))
	return fmt.Sprintf("unreadable-%x", sum[:8])
}

// Members lists all validators that joined and did not leave. It is immutable.
type Members struct {
	// Sequence grows with each change of the list.
	Sequence uint64
	// Since is when the list began. Validators that have been silent since before may be missing.
	Since time.Time
	// Entries are by name. Each has only the fields that Newer compares, as they were when the instance
	// joined.
	Entries map[string]*Validator
}

// NewMembers returns an empty list that begins at a time.
func NewMembers(since time.Time) *Members { return &Members{Sequence: 1, Since: since} }

// BegunWith reports whether the list is as old as its store. Only such a list names every validator that ever
// joined. A younger list may lack running validators.
func (m *Members) BegunWith(store Meta) bool {
	return m.Since.UnixMilli() == store.CreateTime.UnixMilli()
}

// EntryOf returns the list entry of a validator.
func EntryOf(v *Validator) *Validator {
	return &Validator{ID: v.ID, InstanceID: v.InstanceID, Start: v.Start, Sequence: v.Sequence, Cursors: map[int]Cursor{}}
}

// SealMembers signs the list.
func (c *Codec) SealMembers(list *Members) ([]byte, error) {
	m := &countersignv1.FleetMembers{Sequence: list.Sequence, SinceMillis: list.Since.UnixMilli()}
	for _, v := range list.Entries {
		m.Members = append(m.Members, &countersignv1.ValidatorRecord{
			ValidatorId: v.ID, InstanceId: v.InstanceID, StartMillis: v.Start.UnixMilli(), Sequence: v.Sequence,
		})
	}
	slices.SortFunc(m.Members, func(a, b *countersignv1.ValidatorRecord) int {
		return strings.Compare(a.GetValidatorId(), b.GetValidatorId())
	})
	return c.seal(kindMembers, 0, m)
}

// OpenMembers verifies the list.
func (c *Codec) OpenMembers(raw []byte) (*Members, error) {
	var m countersignv1.FleetMembers
	if err := c.open(kindMembers, 0, raw, &m); err != nil {
		return nil, err
	}
	list := &Members{Sequence: m.GetSequence(), Since: time.UnixMilli(m.GetSinceMillis()), Entries: map[string]*Validator{}}
	for _, one := range m.GetMembers() {
		v, err := c.validatorFromProto(one)
		if err != nil {
			return nil, err
		}
		list.Entries[v.ID] = EntryOf(v)
	}
	return list, nil
}
