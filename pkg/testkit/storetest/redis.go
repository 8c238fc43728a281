package storetest

import (
	"context"
	"fmt"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
)

// write does what the authority's script does without its checks: it writes link, document and head, and
// publishes the hint.
const write = `
redis.call('XADD', KEYS[3], ARGV[2] .. '-0', 'l', ARGV[3])
redis.call('HSET', KEYS[2], ARGV[4], ARGV[5])
redis.call('SET', KEYS[1], ARGV[1])
redis.call('PUBLISH', ARGV[6], ARGV[3])
return 'OK'`

// CopyTo writes the store as readers see it to an empty Redis. From then on every commit is written there
// too. Later damage, faults and lost writes are not copied.
func (s *Store) CopyTo(client *redisfeed.Client) {
	s.tb.Helper()
	ctx := context.Background()
	raw, err := record.SealMeta(s.ring, s.meta)
	if err != nil {
		s.tb.Fatalf("storetest: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for partition, c := range s.partitions {
		keys := record.KeysOf(partition)
		for appID, document := range c.documents {
			s.check(client.HSet(ctx, keys.Policies, appID, document).Err())
		}
		for _, link := range c.log {
			id := fmt.Sprintf("%d-0", link.Revision)
			s.check(client.Do(ctx, "XADD", keys.Log, id, redisfeed.LinkField, link.Data).Err())
		}
		if c.rawHead != nil {
			s.check(client.Set(ctx, keys.Head, c.rawHead, 0).Err())
		}
	}
	s.check(client.Set(ctx, record.MetaKey, raw, 0).Err())
	s.mirror = func(made Commit) error {
		keys := record.KeysOf(made.Partition)
		return client.Eval(ctx, write, []string{keys.Head, keys.Policies, keys.Log},
			made.Head, made.Cursor.Revision, made.Link, made.AppID, made.Document, keys.Hint).Err()
	}
}

func (s *Store) check(err error) {
	s.tb.Helper()
	if err != nil {
		s.tb.Fatalf("storetest: %v", err)
	}
}
