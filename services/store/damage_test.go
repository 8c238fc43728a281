package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/services/store"
)

// damaged is an app whose partition is about to be damaged.
type damaged struct {
	*system
	t         testing.TB
	partition int
	app       string
	keys      record.Keys
	// oldHead and oldDocument are signed, from before the latest change.
	oldHead, oldDocument string
	head                 record.Head
}

func (d damaged) do(args ...any) {
	d.t.Helper()
	if err := d.client.Do(context.Background(), args...).Err(); err != nil {
		d.t.Fatal(err)
	}
}

// replace replaces a key with one of another type.
func (d damaged) replace(key string, args ...any) {
	d.t.Helper()
	d.do("DEL", key)
	d.do(args...)
}

// seal signs a head with a codec.
func (d damaged) seal(codec *record.Codec, change func(*record.Head)) []byte {
	d.t.Helper()
	head := d.head
	change(&head)
	return check.Must(codec.SealHead(d.partition, head))(d.t)
}

func (d damaged) other() *record.Codec { return record.NewCodec(keyring.Generate(), d.meta) }

const garbage = "\x01\x02not a record"

// damages are ways to damage a partition, with the error reasons of a later change and a later read of its
// app.
var damages = []struct {
	name   string
	damage func(d damaged)
	reason string
	// read is the reason of the error of a read; empty when the app can still be read.
	read string
}{
	{"head: missing", func(d damaged) { d.do("DEL", d.keys.Head) }, apierr.StoreUnavailable, apierr.StoreUnavailable},
	{"head: empty", func(d damaged) { d.do("SET", d.keys.Head, "") }, apierr.StoreUnavailable, apierr.StoreUnavailable},
	{"head: garbage", func(d damaged) { d.do("SET", d.keys.Head, garbage) }, apierr.StoreUnavailable, apierr.StoreUnavailable},
	{"head: one bit is wrong", func(d damaged) {
		raw := check.Must(d.client.Get(d.t.Context(), d.keys.Head).Bytes())(d.t)
		raw[len(raw)-1] ^= 1
		d.do("SET", d.keys.Head, raw)
	}, apierr.StoreUnavailable, apierr.StoreUnavailable},
	{
		"head: another type", func(d damaged) { d.replace(d.keys.Head, "RPUSH", d.keys.Head, "x") }, apierr.StoreUnavailable,
		apierr.StoreUnavailable,
	},
	{"head: of another partition", func(d damaged) {
		d.do("COPY", record.KeysOf((d.partition+1)%partitions).Head, d.keys.Head, "REPLACE")
	}, apierr.StoreUnavailable, apierr.StoreUnavailable},
	{"head: signed by another ring", func(d damaged) {
		d.do("SET", d.keys.Head, d.seal(d.other(), func(*record.Head) {}))
	}, apierr.StoreUnavailable, apierr.StoreUnavailable},
	{"head: of another store with the same ring", func(d damaged) {
		meta := d.meta
		meta.StoreID = "another"
		d.do("SET", d.keys.Head, d.seal(record.NewCodec(d.ring, meta), func(*record.Head) {}))
	}, apierr.StoreUnavailable, apierr.StoreUnavailable},
	{"head: an older one put back", func(d damaged) { d.do("SET", d.keys.Head, d.oldHead) }, apierr.StoreForked, ""},
	{"head: another tag at the same revision", func(d damaged) {
		d.do("SET", d.keys.Head, d.seal(d.codec, func(h *record.Head) { h.Tag = record.NewTag() }))
	}, apierr.StoreForked, ""},

	{
		"documents: another type", func(d damaged) { d.replace(d.keys.Policies, "SET", d.keys.Policies, "x") },
		apierr.StoreUnavailable, apierr.StoreUnavailable,
	},
	{"documents: missing", func(d damaged) { d.do("DEL", d.keys.Policies) }, apierr.PolicyUnverified, apierr.PolicyUnverified},
	{
		"document: missing", func(d damaged) { d.do("HDEL", d.keys.Policies, d.app) }, apierr.PolicyUnverified,
		apierr.PolicyUnverified,
	},
	{
		"document: empty", func(d damaged) { d.do("HSET", d.keys.Policies, d.app, "") }, apierr.PolicyUnverified,
		apierr.PolicyUnverified,
	},
	{
		"document: garbage", func(d damaged) { d.do("HSET", d.keys.Policies, d.app, garbage) }, apierr.PolicyUnverified,
		apierr.PolicyUnverified,
	},
	{"document: one bit is wrong", func(d damaged) {
		raw := check.Must(d.client.HGet(d.t.Context(), d.keys.Policies, d.app).Bytes())(d.t)
		raw[len(raw)-1] ^= 1
		d.do("HSET", d.keys.Policies, d.app, raw)
	}, apierr.PolicyUnverified, apierr.PolicyUnverified},
	{"document: an older one put back", func(d damaged) {
		d.do("HSET", d.keys.Policies, d.app, d.oldDocument)
	}, apierr.PolicyUnverified, apierr.PolicyUnverified},
	{"document: of another app", func(d damaged) {
		raw := check.Must(d.codec.SealDocument(&record.Document{AppID: d.otherApp(d.partition, 99), Cursor: d.head.Cursor}))(d.t)
		d.do("HSET", d.keys.Policies, d.app, raw)
	}, apierr.PolicyUnverified, apierr.PolicyUnverified},
	{"document: signed by another ring", func(d damaged) {
		raw := check.Must(d.other().SealDocument(&record.Document{AppID: d.app, Cursor: d.head.Cursor}))(d.t)
		d.do("HSET", d.keys.Policies, d.app, raw)
	}, apierr.PolicyUnverified, apierr.PolicyUnverified},

	{"log: another type", func(d damaged) { d.replace(d.keys.Log, "SET", d.keys.Log, "x") }, apierr.StoreUnavailable, ""},
	{"log: ahead of the head", func(d damaged) {
		d.do("XADD", d.keys.Log, fmt.Sprintf("%d-0", d.head.Revision+1), redisfeed.LinkField, "x")
	}, apierr.StoreUnavailable, ""},
	{
		"log: far ahead of the head", func(d damaged) { d.do("XADD", d.keys.Log, "*", redisfeed.LinkField, "x") },
		apierr.StoreUnavailable, "",
	},
	{"log: an entry ahead of the head was added and deleted", func(d damaged) {
		id := fmt.Sprintf("%d-0", d.head.Revision+1)
		d.do("XADD", d.keys.Log, id, redisfeed.LinkField, "x")
		d.do("XDEL", d.keys.Log, id)
	}, apierr.StoreUnavailable, ""},
	{
		"audit: another type", func(d damaged) { d.replace(d.keys.Audit, "HSET", d.keys.Audit, "x", "y") },
		apierr.StoreUnavailable, "",
	},
	{"audit: ahead of the head", func(d damaged) {
		d.do("XADD", d.keys.Audit, fmt.Sprintf("%d-0", d.head.Audit.Sequence+1), redisfeed.AuditField, "x")
	}, apierr.StoreUnavailable, ""},
	{"audit: an entry ahead of the head was added and deleted", func(d damaged) {
		id := fmt.Sprintf("%d-0", d.head.Audit.Sequence+1)
		d.do("XADD", d.keys.Audit, id, redisfeed.AuditField, "x")
		d.do("XDEL", d.keys.Audit, id)
	}, apierr.StoreUnavailable, ""},
}

// TestDamage: the store neither changes nor silently repairs what it cannot verify. Other partitions keep
// working.
func TestDamage(t *testing.T) {
	for _, tt := range damages {
		t.Run(tt.name, func(t *testing.T) {
			s := newSystem(t)
			opened := s.open(s.redis.URL())
			d := damaged{system: s, t: t, app: "app", partition: s.codec.PartitionOf("app"), keys: s.keysOf("app")}
			update(t, opened, call(d.app, "made", add("tok")))
			d.oldHead = check.Must(s.client.Get(t.Context(), d.keys.Head).Result())(t)
			d.oldDocument = check.Must(s.client.HGet(t.Context(), d.keys.Policies, d.app).Result())(t)
			update(t, opened, call(d.app, "changed", note("noted")))
			d.head = s.verify(t, d.partition).head
			// Without a confirmation the change would count as a hint, which a failover may have lost.
			if err := opened.Replica().Confirm(t.Context()); err != nil {
				t.Fatal(err)
			}

			tt.damage(d)
			held := contents(t, s.client)
			urgent := call(d.app, "revoked", revoke)
			urgent.Urgent = true
			for _, c := range []store.Call{call(d.app, "changed", note("again")), urgent} {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				_, err := opened.Update(ctx, c)
				cancel()
				wantUnavailable(t, err, tt.reason)
			}
			_, _, err := opened.Read(t.Context(), d.app)
			if tt.read != "" {
				wantUnavailable(t, err, tt.read)
			} else if err != nil {
				t.Errorf("the app cannot be read: %v", err)
			}
			wantSame(t, s.client, held)

			for partition := range partitions {
				if partition != d.partition {
					update(t, opened, call(s.appIn(partition), "elsewhere", add("tok")))
					s.verify(t, partition)
				}
			}
		})
	}
}

// TestDamagedMeanwhile: a key gets another type after the change was computed and before the script runs. The
// script checks all keys first, and writes nothing.
func TestDamagedMeanwhile(t *testing.T) {
	s := newSystem(t)
	opened := s.open(s.redis.URL())
	partition, keys := s.codec.PartitionOf("app"), s.keysOf("app")
	update(t, opened, call("app", "made", add("tok")))
	kept := check.Must(s.client.Dump(t.Context(), keys.Head).Result())(t)
	request := store.Request{Identity: "ada", Method: "Create", ID: "r1", Digest: []byte("content")}
	for name, key := range map[string]string{
		"head": keys.Head, "documents": keys.Policies, "log": keys.Log, "audit": keys.Audit,
		"request": keys.Request("ada", "Create", "app", "r1"),
	} {
		t.Run(name, func(t *testing.T) {
			d := damaged{system: s, t: t}
			saved, _ := s.client.Dump(t.Context(), key).Result()
			var held map[string]string
			c := call("app", "refused", func(before *record.Document) (*record.Document, error) {
				d.replace(key, "ZADD", key, "1", "x")
				held = contents(t, s.client)
				return add("tok-2")(before)
			})
			c.Request = request
			_, err := opened.Update(t.Context(), c)
			wantUnavailable(t, err, apierr.StoreUnavailable)
			wantSame(t, s.client, held)

			d.do("DEL", key)
			if saved != "" {
				d.do("RESTORE", key, "0", saved)
			}
		})
	}
	if check.Must(s.client.Dump(t.Context(), keys.Head).Result())(t) != kept || len(s.verify(t, partition).links) != 1 {
		t.Error("the head or the log has changed, want both unchanged")
	}
}

// TestDamagedAnswer: a stored answer that does not verify is neither returned nor replaced.
func TestDamagedAnswer(t *testing.T) {
	s := newSystem(t)
	opened := s.open(s.redis.URL())
	key := s.keysOf("app").Request("ada", "Create", "app", "r1")
	c := call("app", "made", add("tok"))
	c.Request = store.Request{Identity: "ada", Method: "Create", ID: "r1", Digest: []byte("content")}
	partition, other := s.codec.PartitionOf("app"), s.keysOf("app").Request("ada", "Create", "app", "r2")
	result := func(codec *record.Codec, key string, age time.Duration) []byte {
		return check.Must(codec.SealRequest(partition, record.RequestResult{
			Digest: []byte("content"), Response: []byte("answer"), Key: key, CreateMillis: time.Now().Add(-age).UnixMilli(),
		}))(t)
	}
	for name, put := range map[string][]any{
		"garbage": {"SET", key, garbage}, "another type": {"RPUSH", key, "x"}, "empty": {"SET", key, ""},
		"of another ring":             {"SET", key, result(damaged{system: s}.other(), key, 0)},
		"of another request":          {"SET", key, result(s.codec, other, 0)},
		"older than answers are kept": {"SET", key, result(s.codec, key, 25*time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			damaged{system: s, t: t}.replace(key, put...)
			held := contents(t, s.client)
			_, err := opened.Update(t.Context(), c)
			if got := apierr.ReasonOf(err); got != apierr.PolicyUnverified && got != apierr.StoreUnavailable {
				t.Errorf("got %v", err)
			}
			wantSame(t, s.client, held)
		})
	}
	t.Run("good", func(t *testing.T) {
		damaged{system: s, t: t}.replace(key, "SET", key, result(s.codec, key, 23*time.Hour))
		if update(t, opened, c).Repeated == nil {
			t.Error("got a new answer, want the stored one")
		}
	})
}

// TestTrimmedTrails: a missing log or audit trail does not prevent changes, since the head holds their ends.
func TestTrimmedTrails(t *testing.T) {
	s := newSystem(t)
	opened := s.open(s.redis.URL())
	update(t, opened, call("app", "made", add("tok")))
	keys := s.keysOf("app")
	if err := s.client.Del(t.Context(), keys.Log, keys.Audit).Err(); err != nil {
		t.Fatal(err)
	}
	result := update(t, opened, call("app", "changed", note("noted")))
	if got := check.Must(s.client.XLen(t.Context(), keys.Log).Result())(t); got != 1 || result.Position.Revision != 2 {
		t.Errorf("got revision %d and %d links, want 2 and 1", result.Position.Revision, got)
	}
	late := s.open(s.redis.URL())
	if d, _, err := late.Read(t.Context(), "app"); err != nil || d.Tokens[0].Note != "noted" {
		t.Errorf("an authority that comes later reads %+v, %v", d, err)
	}
	update(t, late, call("app", "changed", note("again")))
}

// TestLogIsTrimmed: the log is trimmed at its old end to about LogLength.
func TestLogIsTrimmed(t *testing.T) {
	s := newSystem(t)
	partition, keys := s.codec.PartitionOf("app"), s.keysOf("app")
	const before = store.LogLength + 5_000
	pipe := s.client.Pipeline()
	for revision := range before {
		pipe.Do(t.Context(), "XADD", keys.Log, fmt.Sprintf("%d-0", revision+1), redisfeed.LinkField, "x")
	}
	raw := check.Must(s.codec.SealHead(partition, record.Head{
		Cursor: record.Cursor{Epoch: 1, Revision: before, Tag: record.NewTag()}, State: s.codec.SealSum(partition, record.Sum{}),
	}))(t)
	pipe.Set(t.Context(), keys.Head, raw, 0)
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	update(t, s.open(s.redis.URL()), call("app", "made", add("tok")))
	length := check.Must(s.client.XLen(t.Context(), keys.Log).Result())(t)
	// Redis trims whole nodes, of 100 entries by default.
	if length < store.LogLength || length > store.LogLength+200 {
		t.Errorf("the log has %d links, want about %d", length, store.LogLength)
	}
	last := check.Must(s.client.XRevRangeN(t.Context(), keys.Log, "+", "-", 1).Result())(t)
	if last[0].ID != fmt.Sprintf("%d-0", before+1) {
		t.Errorf("the log ends with %s, want %d-0", last[0].ID, before+1)
	}
}

// TestOldDocumentUnseen: an older document is put back before the authority's replica has seen the newer one.
// The authority detects that all the same.
func TestOldDocumentUnseen(t *testing.T) {
	s := newSystem(t)
	line := redistest.NewProxy(t, s.redis.Address())
	slow := s.openWith(redisClient(t, s.redis.URL()), s.replica(redisClient(t, line.URL())))
	fast := s.open(s.redis.URL())
	keys := s.keysOf("app")
	made := update(t, fast, call("app", "made", add("tok")))
	if err := slow.Replica().Reach(t.Context(), made.Position.Partition, made.Position.Cursor); err != nil {
		t.Fatal(err)
	}
	old := check.Must(s.client.HGet(t.Context(), keys.Policies, "app").Result())(t)
	line.BlackHole()
	update(t, fast, call("app", "changed", note("noted")))
	if err := s.client.HSet(t.Context(), keys.Policies, "app", old).Err(); err != nil {
		t.Fatal(err)
	}
	held := contents(t, s.client)
	looks := calls(t, s.client, "hget")
	ended := make(chan error, 1)
	computed := false
	go func() {
		_, err := slow.Update(context.WithoutCancel(t.Context()),
			call("app", "refused", func(before *record.Document) (*record.Document, error) {
				computed = true
				return note("again")(before)
			}))
		ended <- err
	}()
	check.Eventually(t, "a look at the document", func() error {
		if calls(t, s.client, "hget") == looks {
			return errors.New("not yet")
		}
		return nil
	})
	line.Restore()
	wantUnavailable(t, <-ended, apierr.PolicyUnverified)
	if computed {
		t.Error("a change was computed from the older document")
	}
	wantSame(t, s.client, held)
}
