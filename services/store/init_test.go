package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/countersign/countersign/deploy/redisacl"
	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/services/store"
)

// hook sees the commands of a client, numbered from 1. Process runs the command.
type hook func(number int, command redis.Cmder, process func() error) error

func (h hook) on(client *redisfeed.Client) { client.AddHook(&hooked{see: h}) }

type hooked struct {
	see    hook
	mu     sync.Mutex
	number int
}

func (h *hooked) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *hooked) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *hooked) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, command redis.Cmder) error {
		h.mu.Lock()
		h.number++
		number := h.number
		h.mu.Unlock()
		return h.see(number, command, func() error { return next(ctx, command) })
	}
}

// checkStore checks that a Redis holds a complete store with a given meta and without apps.
func checkStore(t *testing.T, client *redisfeed.Client, ring *keyring.Ring, want record.Meta) {
	t.Helper()
	meta := check.Must(client.Meta(t.Context(), ring))(t)
	if meta.StoreID != want.StoreID || meta.Partitions != want.Partitions || len(meta.StoreID) != 32 {
		t.Fatalf("the store is %+v, want %+v", meta, want)
	}
	codec := record.NewCodec(ring, meta)
	for partition := range meta.Partitions {
		raw := check.Must(client.Get(t.Context(), record.KeysOf(partition).Head).Bytes())(t)
		head := check.Must(codec.OpenHead(partition, raw))(t)
		if head.Epoch != 1 || head.Revision != 0 || head.Tag == (record.Tag{}) || head.Policies != 0 ||
			head.State != codec.SealSum(partition, record.Sum{}) || head.Audit.Sequence != 0 {
			t.Errorf("partition %d begins at %+v", partition, head)
		}
	}
}

// TestB24_NewStoreHasAListOfMembers: a missing list was therefore removed by somebody. A list of another
// store is replaced, and a list of this store is kept.
func TestB24_NewStoreHasAListOfMembers(t *testing.T) {
	client, ring := redisClient(t, redistest.Start(t).URL()), keyring.Generate()
	for name, left := range map[string]string{"nothing is there": "", "one of another store": "garbage"} {
		if err := client.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		if left != "" {
			if err := client.HSet(t.Context(), record.FleetKey, record.MembersField, left).Err(); err != nil {
				t.Fatal(err)
			}
		}
		meta, _, err := store.Init(t.Context(), client, ring, partitions)
		if err != nil || !meta.MembersListed {
			t.Fatalf("%s: %+v, %v", name, meta, err)
		}
		raw := client.HGet(t.Context(), record.FleetKey, record.MembersField).Val()
		list, err := record.NewCodec(ring, meta).OpenMembers([]byte(raw))
		if err != nil || list.Sequence == 0 || len(list.Entries) > 0 || !list.BegunWith(meta) {
			t.Errorf("%s: %+v, %v", name, list, err)
		}
		for _, replace := range []bool{false, true} {
			if begun, err := store.BeginFleet(t.Context(), client, record.NewCodec(ring, meta), meta.CreateTime,
				replace); err != nil || begun {
				t.Errorf("%s: repeated: %t, %v", name, begun, err)
			}
		}
	}
}

func TestInit(t *testing.T) {
	client, ring := redisClient(t, redistest.Start(t).URL()), keyring.Generate()
	if err := client.Set(t.Context(), "somebody else's", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	meta, created, err := store.Init(t.Context(), client, ring, partitions)
	if err != nil || !created || meta.Partitions != partitions {
		t.Fatalf("got %+v, %t, %v", meta, created, err)
	}
	checkStore(t, client, ring, meta)

	held := contents(t, client)
	if len(held) != partitions+3 {
		t.Errorf("there are %d keys, want a head for each partition, the meta, the fleet and somebody else's", len(held))
	}
	for _, count := range []int{partitions, 2 * partitions} {
		again, created, err := store.Init(t.Context(), client, ring, count)
		if err != nil || created || again.StoreID != meta.StoreID || again.Partitions != partitions {
			t.Errorf("repeated with %d partitions: %+v, %t, %v", count, again, created, err)
		}
	}
	wantSame(t, client, held)
}

func TestInitOfAStoreInUse(t *testing.T) {
	s := newSystem(t)
	update(t, s.open(s.redis.URL()), call("app", "made", add("tok")))
	held := contents(t, s.client)
	if meta, created, err := store.Init(t.Context(), s.client, s.ring, partitions); err != nil || created ||
		meta.StoreID != s.meta.StoreID {
		t.Errorf("got %+v, %t, %v", meta, created, err)
	}
	wantSame(t, s.client, held)
}

func TestInitPartitions(t *testing.T) {
	client, ring := redisClient(t, redistest.Start(t).URL()), keyring.Generate()
	for _, count := range []int{-1, 0, record.MaxPartitions + 1} {
		if _, _, err := store.Init(t.Context(), client, ring, count); err == nil {
			t.Errorf("%d partitions are taken", count)
		}
	}
	wantSame(t, client, map[string]string{})
	for _, count := range []int{1, record.MaxPartitions} {
		meta, _, err := store.Init(t.Context(), client, ring, count)
		if err != nil {
			t.Fatal(err)
		}
		checkStore(t, client, ring, meta)
		client.FlushAll(t.Context())
	}
}

// TestInitIsRefused: in a Redis with keys of another store, or with some keys of an earlier one, Init fails
// and writes nothing.
func TestInitIsRefused(t *testing.T) {
	other := keyring.Generate()
	foreign := check.Must(record.SealMeta(other, record.Meta{StoreID: "another", Partitions: partitions}))(t)
	rests := map[string][]any{
		"a store of another ring":      {"SET", record.MetaKey, foreign},
		"a broken meta":                {"SET", record.MetaKey, "x"},
		"a meta of another type":       {"RPUSH", record.MetaKey, "x"},
		"a beginning of another ring":  {"SET", "cs:init", foreign},
		"a broken beginning":           {"SET", "cs:init", "x"},
		"a beginning of another type":  {"RPUSH", "cs:init", "x"},
		"a head":                       {"SET", record.KeysOf(0).Head, "x"},
		"a log":                        {"XADD", record.KeysOf(1).Log, "1-0", "l", "x"},
		"an audit trail":               {"XADD", record.KeysOf(2).Audit, "1-0", "e", "x"},
		"documents":                    {"HSET", record.KeysOf(3).Policies, "app", "x"},
		"a head of a larger store":     {"SET", record.KeysOf(partitions).Head, "x"},
		"a head of the largest store":  {"SET", record.KeysOf(record.MaxPartitions - 1).Head, "x"},
		"documents of a larger store":  {"HSET", record.KeysOf(200).Policies, "app", "x"},
		"a head of a type of its own":  {"RPUSH", record.KeysOf(0).Head, "x"},
		"documents, another's, in all": {"HSET", record.KeysOf(0).Policies, "app", foreign},
	}
	client, ring := redisClient(t, redistest.Start(t).URL()), keyring.Generate()
	for name, rest := range rests {
		t.Run(name, func(t *testing.T) {
			client.FlushAll(t.Context())
			if err := client.Do(t.Context(), rest...).Err(); err != nil {
				t.Fatal(err)
			}
			held := contents(t, client)
			_, created, err := store.Init(t.Context(), client, ring, partitions)
			if err == nil || created {
				t.Errorf("got created %t, %v, want an error", created, err)
			}
			if key := rest[1]; key != record.MetaKey && key != "cs:init" && !errors.Is(err, store.ErrNotEmpty) {
				t.Errorf("got %v", err)
			}
			wantSame(t, client, held)
		})
	}
}

// TestInitCutOff: an initialisation is interrupted at any of its commands. The next call continues it, and
// one complete store results.
func TestInitCutOff(t *testing.T) {
	redisServer := redistest.Start(t)
	clean, ring := redisClient(t, redisServer.URL()), keyring.Generate()
	total := 0
	counting := redisClient(t, redisServer.URL())
	hook(func(number int, _ redis.Cmder, process func() error) error { total = number; return process() }).on(counting)
	if _, _, err := store.Init(t.Context(), counting, ring, partitions); err != nil {
		t.Fatal(err)
	}
	// The search for foreign keys has one step for each possible partition. The test uses its first and last.
	var steps []int
	for step := 1; step <= total; step++ {
		if step < 5 || step > record.MaxPartitions {
			steps = append(steps, step)
		}
	}
	cut := errors.New("cut off")
	for _, done := range []bool{false, true} {
		for _, step := range steps {
			t.Run(fmt.Sprintf("step %d of %d, carried out: %t", step, total, done), func(t *testing.T) {
				clean.FlushAll(t.Context())
				client := redisClient(t, redisServer.URL())
				hook(func(number int, command redis.Cmder, process func() error) error {
					switch {
					case number < step:
						return process()
					case number == step && done:
						_ = process()
					}
					command.SetErr(cut)
					return cut
				}).on(client)
				if _, created, err := store.Init(t.Context(), client, ring, partitions); err == nil || created && step < total {
					t.Fatalf("created %t, %v", created, err)
				}
				begun, _ := clean.Get(t.Context(), "cs:init").Bytes()

				// The continuing caller may ask for another number of partitions.
				meta, _, err := store.Init(t.Context(), clean, ring, 2*partitions)
				if err != nil {
					t.Fatal(err)
				}
				checkStore(t, clean, ring, meta)
				if begun != nil {
					if first := check.Must(record.OpenMeta(ring, begun))(t); first.StoreID != meta.StoreID {
						t.Errorf("got the store %[2]s, want %[1]s, which was begun", first.StoreID, meta.StoreID)
					}
				}
				if _, created, err := store.Init(t.Context(), clean, ring, partitions); err != nil || created {
					t.Errorf("the third call: got created %t, %v, want the existing store", created, err)
				}
			})
		}
	}
}

// TestInitNeedsItsRights: with an account that lacks a right of an initialisation, Init fails and writes
// nothing. An account with all rights can then make the store.
func TestInitNeedsItsRights(t *testing.T) {
	server := redistest.StartWithAccounts(t)
	all, ring := redisClient(t, server.URL()), keyring.Generate()
	for name, rights := range map[string]string{
		"the account of the authority": redisacl.Rules(redisacl.Authority),
		"may not run DEL":              "~cs:* +@all -del",
		"may not write one head":       "~cs:init ~cs:meta %R~cs:* ~cs:{cs00}:* ~cs:{cs01}:* ~cs:{cs02}:* +@all",
		"may not write the meta":       "~cs:init %R~cs:meta ~cs:{*}:* +@all",
	} {
		t.Run(name, func(t *testing.T) {
			rules := append([]any{"ACL", "SETUSER", "limited", "reset", "on", ">limited"}, fields(rights)...)
			if err := all.Do(t.Context(), rules...).Err(); err != nil {
				t.Fatal(err)
			}
			_, created, err := store.Init(t.Context(), redisClient(t, server.URLFor("limited")), ring, partitions)
			if err == nil || created || !strings.Contains(err.Error(), "nothing was changed; use the operator's account") {
				t.Errorf("created %t, %v", created, err)
			}
			wantSame(t, all, map[string]string{})
		})
	}
	meta, created, err := store.Init(t.Context(), redisClient(t, server.URLFor(redisacl.Operator)), ring, partitions)
	if err != nil || !created {
		t.Fatalf("the operator's account: created %t, %v", created, err)
	}
	checkStore(t, all, ring, meta)
}

// TestInitRemovesWhatIsLeft: an initialisation wrote its store and was interrupted before it removed InitKey.
// The next one removes the key.
func TestInitRemovesWhatIsLeft(t *testing.T) {
	client, ring := redisClient(t, redistest.Start(t).URL()), keyring.Generate()
	meta, _, err := store.Init(t.Context(), client, ring, partitions)
	if err != nil {
		t.Fatal(err)
	}
	held := contents(t, client)
	for name, left := range map[string]struct {
		raw   []byte
		stays bool
	}{
		"of this store": {raw: check.Must(record.SealMeta(ring, meta))(t)},
		"of another store": {
			raw:   check.Must(record.SealMeta(ring, record.Meta{StoreID: "another", Partitions: 1}))(t),
			stays: true,
		},
		"of another ring": {raw: check.Must(record.SealMeta(keyring.Generate(), meta))(t), stays: true},
		"no meta":         {raw: []byte("x"), stays: true},
	} {
		t.Run(name, func(t *testing.T) {
			if err := client.Set(t.Context(), "cs:init", left.raw, 0).Err(); err != nil {
				t.Fatal(err)
			}
			if again, created, err := store.Init(t.Context(), client, ring, partitions); err != nil || created ||
				again.StoreID != meta.StoreID {
				t.Errorf("%+v, created %t, %v", again, created, err)
			}
			if left.stays {
				if removed := check.Must(client.Del(t.Context(), "cs:init").Result())(t); removed != 1 {
					t.Error("InitKey was removed, want it kept")
				}
				return
			}
			wantSame(t, client, held)
		})
	}
}

// TestInitAtOnce: concurrent initialisations all get the one resulting store, or an error.
func TestInitAtOnce(t *testing.T) {
	redisServer := redistest.Start(t)
	client, ring := redisClient(t, redisServer.URL()), keyring.Generate()
	check := func(t *testing.T, meta record.Meta, err error) {
		t.Helper()
		switch {
		case errors.Is(err, store.ErrNotEmpty):
		case err != nil:
			t.Error(err)
		default:
			checkStore(t, client, ring, meta)
		}
	}
	t.Run("at random", func(t *testing.T) {
		for range 10 {
			client.FlushAll(t.Context())
			metas, errs := make([]record.Meta, 4), make([]error, 4)
			var group sync.WaitGroup
			for i := range metas {
				group.Go(func() { metas[i], _, errs[i] = store.Init(context.Background(), client, ring, partitions) })
			}
			group.Wait()
			for i := range metas {
				check(t, metas[i], errs[i])
			}
		}
	})
	for _, name := range []string{"setnx", "get", "del"} {
		t.Run("another caller makes a store before the first "+name, func(t *testing.T) {
			client.FlushAll(t.Context())
			slow, once := redisClient(t, redisServer.URL()), sync.Once{}
			hook(func(number int, command redis.Cmder, process func() error) error {
				// The first command looks for the store's meta.
				if number > 1 && (command.Name() == name || name == "setnx" && command.Args()[len(command.Args())-1] == "nx") {
					once.Do(func() {
						if _, _, err := store.Init(context.Background(), client, ring, partitions); err != nil {
							t.Error(err)
						}
					})
				}
				return process()
			}).on(slow)
			meta, _, err := store.Init(t.Context(), slow, ring, partitions)
			check(t, meta, err)
		})
	}
}
