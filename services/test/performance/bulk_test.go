package performance

import (
	"testing"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/services/store/bulk"
)

// bulkSamples is roughly the number of apps that are remembered.
const bulkSamples = 8 * record.DefaultPartitions

// bulkStore is a store of many tokens, written without an authority.
type bulkStore struct {
	*bulk.Store
	client *redisfeed.Client
}

// writeBulk makes a store in an empty Redis, with a number of apps and tokens per app.
func writeBulk(t testing.TB, client *redisfeed.Client, ring *keyring.Ring, apps, tokensPerApp int) *bulkStore {
	t.Helper()
	filled := check.Must(bulk.Fill(t.Context(), client, ring, bulk.Contents{
		Apps: apps, TokensPerApp: tokensPerApp, Samples: bulkSamples,
	}))(t)
	return &bulkStore{Store: filled, client: client}
}

// memory returns the bytes that Redis needs in total, for the documents, and for the logs.
func (b *bulkStore) memory(t testing.TB) (all, documents, logs int) {
	t.Helper()
	for partition := range record.DefaultPartitions {
		keys := record.KeysOf(partition)
		for key, sum := range map[string]*int{keys.Policies: &documents, keys.Log: &logs} {
			if check.Must(b.client.Exists(t.Context(), key).Result())(t) == 1 {
				*sum += int(check.Must(b.client.MemoryUsage(t.Context(), key, 0).Result())(t)) // 0: measure every element
			}
		}
	}
	return readInfo(t, b.client, "memory", "used_memory"), documents, logs
}
