package record_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
)

func sample() *record.Validator {
	return &record.Validator{
		ID: "validator-1", InstanceID: "abc", Start: time.UnixMilli(1_700_000_000_123), Sequence: 7,
		Cursors: map[int]record.Cursor{
			0: {Epoch: 1, Revision: 2, Tag: record.Tag{3}},
			5: {Epoch: 4, Revision: 0, Tag: record.Tag{6}},
		},
		DataAge: 250 * time.Millisecond, Stale: true, FencedAfter: 2 * time.Second, KeyIDs: []string{"a", "b"}, Orphans: 3,
		Reported: time.UnixMilli(1_700_000_001_456), Gone: true,
	}
}

func TestValidatorsComeBackAsTheyWere(t *testing.T) {
	c := newCodec(t)
	want := sample()
	raw, err := c.SealValidator(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.OpenValidator(want.ID, raw)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	none := &record.Validator{
		ID: "none", Start: time.UnixMilli(1), Reported: time.UnixMilli(2),
		Cursors: map[int]record.Cursor{},
	}
	raw, err = c.SealNews([]*record.Validator{want, none})
	if err != nil {
		t.Fatal(err)
	}
	news, err := c.OpenNews(raw)
	if err != nil || !reflect.DeepEqual(news.Records, []*record.Validator{want, none}) || news.Offered != nil {
		t.Errorf("%+v, %v", news, err)
	}
	raw, err = c.SealOffer("a", c.Partitions()-1, [][]byte{{1}, {2, 3}})
	if err != nil {
		t.Fatal(err)
	}
	offer, err := c.OpenNews(raw)
	if err != nil || offer.Sender != "a" || offer.Partition != c.Partitions()-1 ||
		!reflect.DeepEqual(offer.Offered, [][]byte{{1}, {2, 3}}) {
		t.Errorf("got the offer %+v, %v; want two links of the last partition", offer, err)
	}
	if raw, err = c.SealOffer("a", c.Partitions(), [][]byte{{1}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.OpenNews(raw); err == nil {
		t.Error("an offer of a partition that does not exist: got no error, want one")
	}
}

// A record means something in its own place only.
func TestValidatorElsewhere(t *testing.T) {
	c := newCodec(t)
	raw, err := c.SealValidator(sample())
	if err != nil {
		t.Fatal(err)
	}
	news, err := c.SealNews([]*record.Validator{sample()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.OpenValidator("validator-2", raw); err == nil {
		t.Error("under another name")
	}
	if _, err := c.OpenNews(raw); err == nil {
		t.Error("a record is taken for news")
	}
	if _, err := c.OpenValidator("validator-1", news); err == nil {
		t.Error("news are taken for a record")
	}
	if _, err := record.NewCodec(keyring.Generate(), record.Meta{
		StoreID:    c.StoreID(),
		Partitions: c.Partitions(),
	}).OpenValidator("validator-1", raw); err == nil {
		t.Error("with other keys")
	}
	beyond := sample()
	beyond.Cursors[record.MaxPartitions] = record.Cursor{Epoch: 1}
	if raw, err = c.SealValidator(beyond); err != nil {
		t.Fatal(err)
	}
	if _, err := c.OpenValidator("validator-1", raw); err == nil {
		t.Error("with a partition that there is not")
	}
}

func TestNewer(t *testing.T) {
	v := func(instance string, start int64, sequence uint64, gone bool) *record.Validator {
		return &record.Validator{InstanceID: instance, Start: time.UnixMilli(start), Sequence: sequence, Gone: gone}
	}
	for name, tt := range map[string]struct {
		newer, older *record.Validator
	}{
		"later report":                  {v("a", 1, 2, false), v("a", 1, 1, false)},
		"gone at that report":           {v("a", 1, 1, true), v("a", 1, 1, false)},
		"back after that":               {v("a", 1, 2, false), v("a", 1, 1, true)},
		"started later":                 {v("a", 2, 1, false), v("b", 1, 9, false)},
		"started at that time":          {v("b", 1, 1, false), v("a", 1, 9, false)},
		"later report, earlier start":   {v("a", 1, 2, false), v("a", 5, 1, false)},
		"gone, another started earlier": {v("b", 2, 1, true), v("a", 1, 5, false)},
	} {
		if !tt.newer.Newer(tt.older) || tt.older.Newer(tt.newer) || tt.newer.Newer(tt.newer) {
			t.Errorf("%s: %t, %t", name, tt.newer.Newer(tt.older), tt.older.Newer(tt.newer))
		}
	}
}
