package usage

import (
	"hash/maphash"

	"github.com/countersign/countersign/pkg/policy"
)

var seed = maphash.MakeSeed()

// SpotFor returns a spot for two ids. A validator uses other hashes.
func SpotFor(appID, tokenID string) Spot {
	return SpotOf(maphash.String(seed, appID), maphash.String(seed, tokenID))
}

// Add counts at the spot of the two ids.
func (c *Counter) Add(nowMillis int64, appID string, scope policy.Scope, d policy.Decision) {
	c.Count(nowMillis, SpotFor(appID, d.TokenID), appID, scope, d)
}
