package record_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// trail returns n rows and their end.
func trail(t *testing.T, c *record.Codec, partition, n int) (rows [][]byte, end record.AuditTail) {
	t.Helper()
	for i := range n {
		row, next, err := c.SealAudit(partition, end, &countersignv1.AuditEvent{Method: fmt.Sprintf("Call%d", i)})
		if err != nil {
			t.Fatal(err)
		}
		rows, end = append(rows, row), next
	}
	return rows, end
}

// verify reads a trail like an auditor who knows its end from the head.
func verify(c *record.Codec, partition int, rows [][]byte, end record.AuditTail) error {
	var at record.AuditTail
	for i, row := range rows {
		var err error
		if _, at, err = c.OpenAudit(partition, at, row); err != nil {
			return fmt.Errorf("row %d: %w", i, err)
		}
	}
	if at.Sequence != end.Sequence || !bytes.Equal(at.Chain, end.Chain) {
		return errors.New("the trail does not end where the head says")
	}
	return nil
}

func TestB23_EveryTamperingWithTheTrailIsFound(t *testing.T) {
	c := newCodec(t)
	rows, end := trail(t, c, 3, 6)
	if err := verify(c, 3, rows, end); err != nil {
		t.Fatalf("the trail itself: %v", err)
	}
	_, empty := trail(t, c, 3, 0)
	if err := verify(c, 3, nil, empty); err != nil {
		t.Fatalf("the empty trail: %v", err)
	}
	// Rows of the same length and keys, which were never part of this trail.
	foreign, foreignEnd := trail(t, c, 3, 6)
	if !bytes.Equal(foreignEnd.Chain, end.Chain) {
		t.Fatal("the chain of equal events is not reproducible")
	}
	other, _, err := c.SealAudit(3, record.AuditTail{}, &countersignv1.AuditEvent{Method: "Another"})
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, _ := trail(t, c, 4, 6)
	with := func(change func(rows [][]byte) [][]byte) [][]byte { return change(slices.Clone(foreign)) }
	for name, tampered := range map[string][][]byte{
		"edited": with(func(r [][]byte) [][]byte {
			r[2] = c.SealRaw("audit", 3, bytes.Replace(payloadOf(t, r[2]), []byte("Call2"), []byte("Call9"), 1))
			return r
		}),
		"first replaced":        with(func(r [][]byte) [][]byte { r[0] = other; return r }),
		"gap":                   with(func(r [][]byte) [][]byte { return slices.Delete(r, 2, 3) }),
		"beginning cut":         with(func(r [][]byte) [][]byte { return r[1:] }),
		"tail cut":              with(func(r [][]byte) [][]byte { return r[:5] }),
		"all cut":               nil,
		"two swapped":           with(func(r [][]byte) [][]byte { r[2], r[3] = r[3], r[2]; return r }),
		"last two swapped":      with(func(r [][]byte) [][]byte { r[4], r[5] = r[5], r[4]; return r }),
		"one twice":             with(func(r [][]byte) [][]byte { return slices.Insert(r, 3, r[2]) }),
		"last twice":            with(func(r [][]byte) [][]byte { return append(r, r[5]) }),
		"row of other trail":    with(func(r [][]byte) [][]byte { r[2] = elsewhere[2]; return r }),
		"trail of other":        elsewhere,
		"bit of a row flipped":  with(func(r [][]byte) [][]byte { r[2] = bytes.Clone(r[2]); r[2][len(r[2])-1] ^= 1; return r }),
		"row that is no record": with(func(r [][]byte) [][]byte { r[2] = []byte("row"); return r }),
	} {
		if err := verify(c, 3, tampered, end); err == nil {
			t.Errorf("%s: not found", name)
		}
	}
}
