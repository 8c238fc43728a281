package tools

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/services/store"
)

// errNoMeta says that a Redis holds partitions, but no meta that names their store.
var errNoMeta = errors.New("cs:meta is missing, and there are partitions of a store: write it again with countersign " +
	"store repair --from FILE, " +
	"a backup or a validator's snapshot of the store, or restore a backup (countersign store restore --replace)")

// lostMeta returns errNoMeta if the Redis holds a key of a partition.
func (t *Tools) lostMeta(ctx context.Context) error {
	found := false
	err := t.keys(ctx, func(key, _ string) { found = found || partitionKey(key) })
	if err == nil && found {
		err = errNoMeta
	}
	return err
}

// strays returns findings about keys outside of partitions: keys that a repair removes, and keys that only an
// operator can decide about. Each finding says what to do.
func (t *Tools) strays(ctx context.Context, codec *record.Codec) (removable, left []Finding, err error) {
	marked := map[string]bool{}
	for _, key := range []string{store.InitKey, restoreKey} {
		meta, err := t.metaIn(ctx, key)
		if err != nil {
			return nil, nil, err
		}
		marked[key] = meta.StoreID == codec.StoreID()
	}
	const removes = ": `countersign store repair` removes it"
	err = t.keys(ctx, func(key, kind string) {
		switch {
		case key == record.MetaKey, partitionKey(key) && belongs(key, codec.Partitions()):
			// The one was opened already, the others are looked at with their partition.
		case key == store.InitKey && marked[key]:
			left = append(left, Finding{key, "is left of an interrupted initialisation: `countersign store init` removes it"})
		case key == store.InitKey:
			removable = append(removable, Finding{key, "is no initialisation of this store" + removes})
		case key == restoreKey && marked[key]:
			left = append(left, Finding{key, "is of an interrupted restoration: give the same `countersign store restore` again"})
		case key == restoreKey:
			removable = append(removable, Finding{key, "is no restoration of this store" + removes})
		case leftover.MatchString(key):
			removable = append(removable, Finding{key, "is left of an interrupted restoration or repair" + removes})
		case !belongs(key, codec.Partitions()):
			left = append(left, Finding{
				key,
				"does not belong here: delete it with redis-cli DEL, or let what writes it use another Redis",
			})
		case kind != typeOf(key) && kind != "":
			removable = append(removable, misfit(key, kind))
		}
	})
	// A scan may name a key twice.
	for _, found := range []*[]Finding{&removable, &left} {
		slices.SortFunc(*found, byPlace)
		*found = slices.Compact(*found)
	}
	return removable, left, err
}

func byPlace(a, b Finding) int { return strings.Compare(a.Where, b.Where) }

// metaIn returns the meta that a key holds; the zero value when the key ring has signed none there.
func (t *Tools) metaIn(ctx context.Context, key string) (record.Meta, error) {
	var raw []byte
	err := retry(ctx, func() (err error) {
		raw, err = t.client.Get(ctx, key).Bytes()
		return err
	})
	if err != nil && !errors.Is(err, redis.Nil) && !redisfeed.IsWrongType(err) {
		return record.Meta{}, err
	}
	meta, err := record.OpenMeta(t.ring, raw)
	if err != nil {
		return record.Meta{}, nil //nolint:nilerr // it says of which store it is, or nothing
	}
	return meta, nil
}
