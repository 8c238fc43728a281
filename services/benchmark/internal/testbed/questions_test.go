package testbed

import (
	"fmt"
	"testing"

	"github.com/countersign/countersign/services/store/bulk"
)

// A deck has one question for each kind and each sample that has a token of this kind. No question at all is
// an error (want 0).
func TestDecks(t *testing.T) {
	samples := []bulk.Sample{{AppID: "a", Secret: "s1", Revoked: "r1"}, {AppID: "b", Secret: "s2"}, {AppID: "c", Revoked: "r3"}}
	for _, tt := range []struct {
		mix     Mix
		samples []bulk.Sample
		want    int
	}{
		{Valid, samples, 2},
		{Unknown, samples, 3},
		{Malformed, samples, 3},
		{Missing, samples, 3},
		{Revoked, samples, 2},
		{Others, samples, 2},
		// 3 each of unknown and missing, 2 each of revoked and others, and 16 times the 2 valid ones
		{Mixed, samples, 3 + 3 + 2 + 2 + 16*2},
		{Valid, samples[2:], 0},
		// with one app, no question can carry the token of another app
		{Mixed, samples[:1], 1 + 1 + 1 + 16},
	} {
		t.Run(fmt.Sprint(tt.mix, len(tt.samples)), func(t *testing.T) {
			deck, err := newDeck(tt.samples, tt.mix, 1)
			if (err != nil) != (tt.want == 0) {
				t.Fatalf("newDeck: error %v; want %d questions (0: an error)", err, tt.want)
			}
			if err == nil && deck.Len() != tt.want {
				t.Errorf("%d questions, want %d", deck.Len(), tt.want)
			}
		})
	}
}
