package fleet

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign/countersign/pkg/record"
)

// linkAt returns a signed link of partition 0, and a note that makes it large.
func (f *fixture) linkAt(revision uint64, note string) []byte {
	f.t.Helper()
	before := &record.Document{Cursor: at(1, revision-1)}
	for n := 0; before.AppID == "" || f.codec.PartitionOf(before.AppID) != 0; n++ {
		before.AppID = fmt.Sprint("app", n)
	}
	after := *before
	after.Cursor = at(1, revision)
	after.Tokens = []record.Token{{Name: "a", Note: note}}
	after.Tokens[0].ID, after.Tokens[0].State = "tok_aaaaaaaaaaaaaaaa", 1
	raw, err := f.codec.SealLink(record.LinkBetween(before.Tag, before, &after))
	if err != nil {
		f.t.Fatal(err)
	}
	return raw
}

// TestB30_LinksAreOfferedToOtherAuthorities: an authority asks only the validators that report to it. What it
// offers is known to the others for a time after the latest offer, and not to itself. Links that do not
// verify are dropped.
func TestB30_LinksAreOfferedToOtherAuthorities(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		here, there := f.authority(), f.authority()
		time.Sleep(time.Second)
		large := make([]byte, offerSize)
		for i := range large {
			large[i] = 'x'
		}
		one, two, three := f.linkAt(2, ""), f.linkAt(3, string(large)), f.linkAt(4, "")
		here.Offer(t.Context(), 0, [][]byte{one, two, []byte("forged"), three, one})
		has := func(when string, want int) {
			t.Helper()
			synctest.Wait()
			if links := there.Offered(0); len(links) != want {
				t.Errorf("%s: got %d links, want %d", when, len(links), want)
			}
		}
		has("at once", 3)
		if own := here.Offered(0); len(own) != 0 || len(there.Offered(1)) != 0 {
			t.Errorf("got %d of its own links and %d of another partition, want none", len(own), len(there.Offered(1)))
		}
		time.Sleep(offerLife - time.Second)
		here.Offer(t.Context(), 0, [][]byte{one})
		time.Sleep(2 * time.Second)
		has("after a while, with a later offer of one", 1)
		time.Sleep(offerLife)
		has("when nothing was offered again", 0)
		there.mu.Lock()
		defer there.mu.Unlock()
		if len(there.offers) != 0 {
			t.Errorf("got %d offers that are kept, want none", len(there.offers))
		}
	})
}

// TestOffersAreBounded: an authority that offers without end fills no memory.
func TestOffersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		there := f.authority()
		note := string(make([]byte, 0, 1))
		for len(note) < 1<<19 {
			note += "a long note of a token; "
		}
		for revision := range uint64(40) {
			raw, err := f.codec.SealOffer("somebody", 0, [][]byte{f.linkAt(revision+2, note)})
			if err != nil {
				t.Fatal(err)
			}
			there.mergeNews(raw)
		}
		size := 0
		for _, link := range there.Offered(0) {
			size += len(link)
		}
		if size > maxOffered || size < maxOffered/2 {
			t.Errorf("got %d bytes of links, want at most %d, and more than half of that", size, maxOffered)
		}
	})
}
