package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
)

// InitKey holds the meta of a store during its initialisation. An interrupted initialisation continues with
// the same store id.
const InitKey = "cs:init"

// ErrNotEmpty says that Redis already has keys that a new store would use.
var ErrNotEmpty = errors.New("there are keys of another store, or the rest of one, in this Redis; nothing was changed")

// Init makes a store in a Redis that holds none: a head for each partition, then the meta. It may be repeated
// after a failure, and run by several callers at once: one store results. In a Redis that holds a store of
// this key ring it changes nothing.
func Init(ctx context.Context, client *redisfeed.Client, ring *keyring.Ring, partitions int) (meta record.Meta,
	created bool, err error,
) {
	if partitions < 1 || partitions > record.MaxPartitions {
		return record.Meta{}, false, fmt.Errorf("partitions: want 1 to %d", record.MaxPartitions)
	}
	if meta, err = client.Meta(ctx, ring); err == nil {
		return meta, false, endInit(ctx, client, ring, meta)
	} else if !errors.Is(err, redisfeed.ErrNotInitialised) {
		return meta, false, err
	}
	if meta, err = beginInit(ctx, client, ring, partitions); err == nil {
		created, err = finishInit(ctx, client, ring, meta)
	}
	// Another caller may have been faster. The stored meta counts.
	there, metaErr := client.Meta(ctx, ring)
	if metaErr == nil {
		return there, created, nil
	}
	if err == nil {
		err = metaErr
	}
	return record.Meta{}, false, err
}

// beginInit returns the meta of the store to make. It is the meta of an interrupted initialisation, or a new
// one if Redis has none of the keys of a new store.
func beginInit(ctx context.Context, client *redisfeed.Client, ring *keyring.Ring, partitions int) (record.Meta, error) {
	raw, err := record.SealMeta(ring, record.Meta{
		StoreID: newStoreID(), Partitions: partitions, CreateTime: time.Now(),
		MembersListed: true,
	})
	if err != nil {
		return record.Meta{}, err
	}
	begun, err := client.Exists(ctx, InitKey).Result()
	if err != nil {
		return record.Meta{}, err
	}
	if begun == 0 {
		if err := checkEmpty(ctx, client); err != nil {
			return record.Meta{}, err
		}
		if err := CheckRights(ctx, client, InitKey, initCommands(partitions)...); err != nil {
			return record.Meta{}, err
		}
		if _, err := setNew(ctx, client, InitKey, raw); err != nil {
			return record.Meta{}, err
		}
	}
	if raw, err = client.Get(ctx, InitKey).Bytes(); err != nil {
		return record.Meta{}, err
	}
	return record.OpenMeta(ring, raw)
}

// initCommands lists the commands that an initialisation needs rights for.
func initCommands(partitions int) []string {
	commands := []string{
		"SET " + InitKey + " x NX", "DEL " + InitKey, "SET " + record.MetaKey + " x NX",
		"HSET " + record.FleetKey + " x x", "HMGET " + record.FleetKey + " x",
	}
	for partition := range partitions {
		commands = append(commands, "SET "+record.KeysOf(partition).Head+" x NX")
	}
	return commands
}

// setNew sets a key if it is missing, and reports whether it did.
func setNew(ctx context.Context, client *redisfeed.Client, key string, value []byte) (bool, error) {
	err := client.SetArgs(ctx, key, value, redis.SetArgs{Mode: "NX"}).Err()
	if errors.Is(err, redis.Nil) {
		return false, nil
	}
	return err == nil, err
}

// endInit removes InitKey when an initialisation was interrupted just before its end.
func endInit(ctx context.Context, client *redisfeed.Client, ring *keyring.Ring, meta record.Meta) error {
	raw, err := client.Get(ctx, InitKey).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	if err != nil {
		return err
	}
	if begun, err := record.OpenMeta(ring, raw); err != nil || begun.StoreID != meta.StoreID {
		return nil //nolint:nilerr // InitKey is not of this store
	}
	return client.Del(ctx, InitKey).Err()
}

// checkEmpty fails when a partition has a key.
func checkEmpty(ctx context.Context, client *redisfeed.Client) error {
	for partition := range record.MaxPartitions {
		keys := record.KeysOf(partition)
		there, err := client.Exists(ctx, keys.Head, keys.Policies, keys.Log, keys.Audit).Result()
		if err != nil {
			return err
		}
		if there > 0 {
			return ErrNotEmpty
		}
	}
	return nil
}

// finishInit writes the heads and the meta, and reports whether this call wrote the meta.
func finishInit(ctx context.Context, client *redisfeed.Client, ring *keyring.Ring, meta record.Meta) (created bool,
	err error,
) {
	codec := record.NewCodec(ring, meta)
	for partition := range meta.Partitions {
		raw, err := codec.SealHead(partition, record.Head{
			Cursor: record.Cursor{Epoch: 1, Tag: record.NewTag()},
			State:  codec.SealSum(partition, record.Sum{}),
		})
		if err != nil {
			return false, err
		}
		if _, err := setNew(ctx, client, record.KeysOf(partition).Head, raw); err != nil {
			return false, err
		}
	}
	if _, err := BeginFleet(ctx, client, codec, meta.CreateTime, true); err != nil {
		return false, err
	}
	raw, err := record.SealMeta(ring, meta)
	if err != nil {
		return false, err
	}
	if created, err = setNew(ctx, client, record.MetaKey, raw); err != nil {
		return false, err
	}
	return created, client.Del(ctx, InitKey).Err()
}

func newStoreID() string {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails since Go 1.24
	return hex.EncodeToString(id)
}
