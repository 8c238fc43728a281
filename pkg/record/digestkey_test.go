package record_test

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// twoKeys is a key ring file with the keys a and b.
const twoKeys = `{"current":"b","keys":{"a":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",` +
	`"b":"cHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHA="}}`

const onlyA = `{"current":"a","keys":{"a":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}}`

func codecOf(t *testing.T, file string) *record.Codec {
	t.Helper()
	ring, err := keyring.Parse([]byte(file))
	if err != nil {
		t.Fatal(err)
	}
	return record.NewCodec(ring, record.Meta{StoreID: storeID, Partitions: 64})
}

// TestDigestStaysWithItsKey: a digest is compared and updated with the key that made it, whichever key is
// current.
func TestDigestStaysWithItsKey(t *testing.T) {
	before, after := codecOf(t, onlyA), codecOf(t, twoKeys)
	sealed := before.SealSum(3, before.Add(record.Sum{}, 3, "app", 7))
	if sealed.Key != "a" {
		t.Fatalf("sealed with %q", sealed.Key)
	}
	sum := after.Add(sealed.EmptySum(), 3, "app", 7)
	if after.SealSum(3, sum) != sealed {
		t.Error("another current key makes another digest of it")
	}
	if after.SealSum(3, after.Add(record.Sum{}, 3, "app", 7)) == sealed {
		t.Error("both keys make one digest")
	}
	sum = after.Remove(after.Add(sum, 3, "other", 8), 3, "app", 7)
	raw, err := after.SealHead(3, record.Head{Cursor: record.Cursor{Epoch: 1, Revision: 8}, State: after.SealSum(3, sum)})
	if err != nil {
		t.Fatal(err)
	}
	head, err := after.OpenHead(3, raw)
	if err != nil || head.State != before.SealSum(3, before.Add(record.Sum{}, 3, "other", 8)) {
		t.Errorf("carried on: %+v, %v", head.State, err)
	}
	if _, err := before.OpenHead(3, raw); !errors.Is(err, keyring.ErrUnknownKey) {
		t.Errorf("without the key that signed it: %v", err)
	}
	hidden, keyID := before.HideSum(record.FileID{1}, 3, sealed.EmptySum())
	if shown, err := after.RevealSum(record.FileID{1}, 3, hidden, keyID); err != nil || shown != sealed.EmptySum() {
		t.Errorf("a sum in a file: %+v, %v", shown, err)
	}
}

// TestHeadNamesTheKeyOfItsDigest: a head without a key name is from an earlier release, which used the
// signing key. A head that names an unknown key does not open.
func TestHeadNamesTheKeyOfItsDigest(t *testing.T) {
	c := codecOf(t, twoKeys)
	for named, want := range map[string]string{"": "b", "a": "a", "b": "b", "c": ""} {
		payload, err := proto.Marshal(&countersignv1.Head{
			Epoch: 1, Tag: make([]byte, 16), StateDigest: make([]byte, 32),
			StateKeyId: named,
		})
		if err != nil {
			t.Fatal(err)
		}
		head, err := c.OpenHead(3, c.SealRaw("head", 3, payload))
		if head.State.Key != want || (want == "") != errors.Is(err, keyring.ErrUnknownKey) {
			t.Errorf("%q: key %q, %v; want %q", named, head.State.Key, err, want)
		}
	}
}
