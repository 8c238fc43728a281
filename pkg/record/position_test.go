package record_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

func TestB25_MalformedConsistencyTokensAreRefused(t *testing.T) {
	encode := func(p *countersignv1.Position) string {
		data, err := proto.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(data)
	}
	good := func(change func(*countersignv1.Position)) string {
		p := &countersignv1.Position{StoreId: storeID, Partition: 255, Epoch: 1, Revision: 0, Tag: make([]byte, 16)}
		change(p)
		return encode(p)
	}
	whole := good(func(*countersignv1.Position) {})
	if _, err := record.DecodePosition(whole); err != nil {
		t.Fatal(err)
	}
	// The last character of this one stands for 2 bits of its 6.
	spare := good(func(p *countersignv1.Position) { p.StoreId = storeID[:30] })
	if _, err := record.DecodePosition(spare); err != nil || len(spare)%4 != 2 {
		t.Fatalf("%d characters, %v", len(spare), err)
	}
	for name, token := range map[string]string{
		"empty":                  "",
		"padded":                 whole + "=",
		"standard base64":        "+" + whole[1:],
		"cut":                    whole[:len(whole)-2],
		"bits behind the end":    spare[:len(spare)-1] + "_",
		"space":                  " " + whole,
		"not a position":         base64.RawURLEncoding.EncodeToString([]byte("\xff\xff")),
		"store id is not UTF-8":  base64.RawURLEncoding.EncodeToString([]byte("\x0a\x01\xff")),
		"no epoch":               good(func(p *countersignv1.Position) { p.Epoch = 0 }),
		"no tag":                 good(func(p *countersignv1.Position) { p.Tag = nil }),
		"short tag":              good(func(p *countersignv1.Position) { p.Tag = p.Tag[:15] }),
		"long tag":               good(func(p *countersignv1.Position) { p.Tag = make([]byte, 17) }),
		"partition out of range": good(func(p *countersignv1.Position) { p.Partition = record.MaxPartitions }),
		"partition of 32 bits":   good(func(p *countersignv1.Position) { p.Partition = 1<<32 - 1 }),
		"oversized": good(func(p *countersignv1.Position) {
			p.StoreId = strings.Repeat("0",
				record.MaxPositionLength)
		}),
		"a megabyte": strings.Repeat("A", 1<<20),
	} {
		p, err := record.DecodePosition(token)
		if !errors.Is(err, record.ErrMalformed) || p != (record.Position{}) {
			t.Errorf("%s: %+v, %v; want ErrMalformed", name, p, err)
		}
	}
}
