package policy_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/secret"
)

// digestOf returns a digest with the given first and last 4 bytes. Policies look digests up by the first 4.
func digestOf(first, last uint32) (d secret.Digest) {
	binary.BigEndian.PutUint32(d[:], first)
	binary.BigEndian.PutUint32(d[len(d)-4:], last)
	return d
}

func withDigests(t testing.TB, digests []secret.Digest) *policy.Policy {
	t.Helper()
	tokens := make([]policy.Token, len(digests))
	for i, d := range digests {
		tokens[i] = policy.Token{ID: fmt.Sprintf("tok_%d", i), Digest: d, State: policy.Active}
	}
	return newPolicy(t, policy.Enforcement{}, tokens...)
}

// wantFound checks that the token of each digest is found, and none for the others.
func wantFound(t testing.TB, p *policy.Policy, digests []secret.Digest, others ...secret.Digest) {
	t.Helper()
	for i, d := range digests {
		if got := p.FindDigest(d); got == nil || got.ID != fmt.Sprintf("tok_%d", i) || got.Digest != d {
			t.Errorf("of %d tokens, number %d with digest %x: found %+v", len(digests), i, d, got)
		}
	}
	for _, d := range others {
		if got := p.FindDigest(d); got != nil {
			t.Errorf("of %d tokens: %x, which is of none, found %+v", len(digests), d, got)
		}
	}
}

// Among 65,535 digests two with the same first 4 bytes are likely. Each of them must be found.
func TestB19_DigestsThatBeginAlike(t *testing.T) {
	for _, alike := range []int{2, 3, 17, 40} {
		for _, before := range []int{0, 1, 15, 16, 30} {
			for _, after := range []int{0, 1, 15, 16, 30} {
				var digests []secret.Digest
				for i := range before {
					digests = append(digests, digestOf(uint32(1+i), 0))
				}
				for i := range alike {
					digests = append(digests, digestOf(1000, uint32(2*i+1)))
				}
				for i := range after {
					digests = append(digests, digestOf(uint32(2000+i), 0))
				}
				// Another order of creation must not change what is found.
				slices.Reverse(digests)
				wantFound(t, withDigests(t, digests), digests,
					digestOf(0, 0), digestOf(999, 1), digestOf(1000, 0), digestOf(1000, 2), digestOf(1000, uint32(2*alike)),
					digestOf(1001, 1), digestOf(1<<32-1, 1))
			}
		}
	}
}

// Every number of tokens around the one at which a lookup changes to binary search. Each token is found, and
// nothing between, before and after them.
func TestB19_LookupsByHalves(t *testing.T) {
	for count := range 70 {
		var digests, others []secret.Digest
		for i := range count {
			digests = append(digests, digestOf(uint32(2*i+1), 7))
		}
		for i := range count + 1 {
			others = append(others, digestOf(uint32(2*i), 7))
		}
		wantFound(t, withDigests(t, digests), digests, append(others, digestOf(1<<31, 7), digestOf(1<<32-1, 7))...)
	}
}
