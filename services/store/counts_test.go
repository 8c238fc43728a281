package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/countersign/countersign/deploy/redisacl"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/services/store"
	"github.com/countersign/countersign/services/store/embedded"
)

// countsRedis are the kinds of Redis that keep counts.
func countsRedis(t *testing.T, test func(t *testing.T, client *redisfeed.Client)) {
	t.Helper()
	for name, url := range map[string]func(t *testing.T) string{
		"one server": func(t *testing.T) string { return redistest.StartWithAccounts(t).URLFor(redisacl.Authority) },
		"embedded": func(t *testing.T) string {
			r := check.Must(embedded.Start())(t)
			t.Cleanup(r.Close)
			return r.URL
		},
		"cluster": func(t *testing.T) string { return redistest.StartCluster(t, 3, 0).URL() },
	} {
		t.Run(name, func(t *testing.T) { test(t, redisClient(t, url(t))) })
	}
}

// first is the write of a first batch, of two instances.
func first(partition int) store.CountsWrite {
	return store.CountsWrite{
		Partition: partition,
		Before:    []store.LastBatch{{InstanceID: "one"}, {InstanceID: "two"}},
		After:     []store.LastBatch{{InstanceID: "one", Number: 1}, {InstanceID: "two", Number: 7}},
		Apps: []store.AppCounts{
			{AppID: "a", Running: []byte("running\x00a"), Hours: []byte("hours a"), Days: []byte("days a")},
			{AppID: "b", Running: []byte("running b")},
		},
		Version: "first", Now: time.Now(),
	}
}

// TestB21_CountsAreWrittenOnce: a write is made if nothing of what it was computed from has changed, all or
// nothing. A repetition of the same write changes nothing.
func TestB21_CountsAreWrittenOnce(t *testing.T) {
	countsRedis(t, func(t *testing.T, client *redisfeed.Client) {
		counts := store.NewCounts(client, "0123456789abcdef")
		write := func(w store.CountsWrite) bool { return check.Must(counts.Write(t.Context(), w))(t) }
		for _, partition := range []int{0, 5} {
			if !write(first(partition)) {
				t.Fatal("the first write is not made")
			}
		}
		last, found, err := counts.Look(t.Context(), 5, []string{"two", "none", "one"}, []string{"b", "none", "a"})
		check.NoError(t, err)
		if fmt.Sprint(last) != "[{two 7} {none 0} {one 1}]" {
			t.Errorf("last batches %v", last)
		}
		if found[0].Version != "first" || string(found[0].Running) != "running b" || found[1].Version != "" ||
			string(found[2].Running) != "running\x00a" || found[2].Hours != nil {
			t.Errorf("%+v", found)
		}
		// Each of these was computed from something that is no longer so.
		repeated, behind, stale := first(5), first(5), first(5)
		behind.Before[0].Number, behind.Before[1].Number = 1, 6
		behind.Apps[0].Version, behind.Apps[1].Version = "first", "first"
		stale.Before = stale.After
		stale.Apps[0].Version = "first"
		for name, w := range map[string]store.CountsWrite{"a repetition": repeated, "a batch behind": behind, "an app": stale} {
			w.Version = "wrong"
			w.Apps[1].Running = []byte("wrong")
			if write(w) {
				t.Errorf("%s: written", name)
			}
		}
		next := first(5)
		next.Before = next.After
		next.After = []store.LastBatch{{InstanceID: "one", Number: 1 << 62}, {InstanceID: "two", Number: 8}}
		next.Apps = []store.AppCounts{{AppID: "a", Version: "first", Running: []byte{}}}
		next.Version = "second"
		if !write(next) {
			t.Error("the next write is not made")
		}
		found, _, err = counts.Read(t.Context(), 5, []string{"a", "b"})
		check.NoError(t, err)
		if a, b := found[0], found[1]; a.Version != "second" || len(a.Running) != 0 || string(a.Hours) != "hours a" ||
			string(a.Days) != "days a" || b.Version != "first" || string(b.Running) != "running b" || b.Hours != nil {
			t.Errorf("%+v", found)
		}
		if last, _, _ := counts.Look(t.Context(), 5, []string{"one"}, nil); last[0].Number != 1<<62 {
			t.Errorf("last batch %d", last[0].Number)
		}
	})
}

// TestB21_CountsExpire: what nobody uses any more goes away by itself.
func TestB21_CountsExpire(t *testing.T) {
	server := redistest.Start(t)
	client := redisClient(t, server.URL())
	check.Must(store.NewCounts(client, "0123456789abcdef").Write(t.Context(), first(5)))(t)
	for key, want := range map[string]time.Duration{
		"csu:01234567:{cs05}:app:a": 36 * 24 * time.Hour, "csu:01234567:{cs05}:app:b": 36 * 24 * time.Hour,
		"csu:01234567:{cs05}:seen:one": 48 * time.Hour,
	} {
		if life := check.Must(client.TTL(t.Context(), key).Result())(t); life > want || life < want-time.Hour {
			t.Errorf("%s lives for %v, want %v", key, life, want)
		}
	}
}

// TestB21_StrangeKeysGiveWay: a key of another type does not stop the counts of its app, nor those of others.
func TestB21_StrangeKeysGiveWay(t *testing.T) {
	countsRedis(t, func(t *testing.T, client *redisfeed.Client) {
		counts := store.NewCounts(client, "0123456789abcdef")
		check.NoError(t, client.Set(t.Context(), "csu:01234567:{cs05}:app:a", "x", 0).Err())
		check.NoError(t, client.HSet(t.Context(), "csu:01234567:{cs05}:seen:one", "x", "x").Err())
		check.NoError(t, client.HSet(t.Context(), "csu:01234567:{cs05}:since", "x", "x").Err())
		check.Eventually(t, "the write", func() error {
			_, _, err := counts.Look(t.Context(), 5, []string{"one", "two"}, []string{"a", "b"})
			check.NoError(t, err)
			if done := check.Must(counts.Write(t.Context(), first(5)))(t); !done {
				return errors.New("not made")
			}
			return nil
		})
		found, since, err := counts.Read(t.Context(), 5, []string{"a"})
		if err != nil || string(found[0].Days) != "days a" || since.IsZero() {
			t.Errorf("%+v since %v, %v", found, since, err)
		}
	})
}

// TestB21_FullRedisTakesNoPart: a full Redis, and an account that lacks a right, refuse the whole write.
func TestB21_FullRedisTakesNoPart(t *testing.T) {
	for name, rules := range map[string]string{"full": "", "no right": "-expire"} {
		t.Run(name, func(t *testing.T) {
			server := redistest.StartWithAccounts(t, "--maxmemory-policy", "noeviction")
			admin := redisClient(t, server.URL())
			if rules != "" {
				check.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", redisacl.Authority, rules).Err())
			} else {
				check.NoError(t, admin.ConfigSet(t.Context(), "maxmemory", "1mb").Err())
			}
			counts := store.NewCounts(redisClient(t, server.URLFor(redisacl.Authority)), "0123456789abcdef")
			w := first(5)
			w.Apps[1].Running = bytes.Repeat([]byte{1}, 1<<20)
			if done, err := counts.Write(t.Context(), w); done || err == nil {
				t.Errorf("written: %t, %v", done, err)
			}
			if keys := check.Must(admin.Keys(t.Context(), "csu:*").Result())(t); len(keys) > 0 {
				t.Errorf("a part was written: %v", keys)
			}
		})
	}
}

// TestB21_TheEndOfCountsStays: of an instance, a value is not overwritten by one whose first character is
// lower.
func TestB21_TheEndOfCountsStays(t *testing.T) {
	countsRedis(t, func(t *testing.T, client *redisfeed.Client) {
		counts := store.NewCounts(client, "0123456789abcdef")
		for _, value := range []string{`1{"n":1}`, `2{"n":2}`, `1{"n":1}`, `2{"n":3}`, `0{"n":2}`} {
			check.NoError(t, counts.Cover(t.Context(), "one", []byte(value)))
		}
		check.NoError(t, counts.Cover(t.Context(), "two", []byte(`0{"n":1}`)))
		all, since, err := counts.Covered(t.Context())
		if err != nil || len(all) != 2 || all["one"] != `2{"n":3}` || all["two"] != `0{"n":1}` || !since.IsZero() {
			t.Errorf("%v since %v, %v", all, since, err)
		}
		check.NoError(t, counts.Uncover(t.Context(), []string{"one", "none"}))
		if all, _, _ := counts.Covered(t.Context()); len(all) != 1 {
			t.Errorf("%v", all)
		}
	})
}

// TestB21_CountsBegin: each partition, and the coverage, say since when nothing was lost. The first time
// stays, until a loss is known or the mark itself is lost.
func TestB21_CountsBegin(t *testing.T) {
	countsRedis(t, func(t *testing.T, client *redisfeed.Client) {
		counts := store.NewCounts(client, "0123456789abcdef")
		at := func(minute int) time.Time { return time.Date(2026, 1, 2, 3, minute, 0, 0, time.UTC) }
		begun := func(want ...time.Time) {
			t.Helper()
			for partition, want := range want[1:] {
				if _, since, err := counts.Read(t.Context(), partition, []string{"a"}); err != nil || !since.Equal(want) {
					t.Errorf("partition %d: since %v, %v, want %v", partition, since, err, want)
				}
			}
			if _, since, err := counts.Covered(t.Context()); err != nil || !since.Equal(want[0]) {
				t.Errorf("coverage: since %v, %v, want %v", since, err, want[0])
			}
		}
		never := time.Time{}
		begun(never, never, never)
		w := first(1)
		w.Now = at(1)
		check.Must(counts.Write(t.Context(), w))(t)
		begun(never, never, at(1))
		check.NoError(t, counts.Begin(t.Context(), 2, at(2)))
		check.NoError(t, counts.Begin(t.Context(), 2, at(3)))
		begun(at(2), at(2), at(1))
		lost := first(1)
		lost.Before, lost.Apps, lost.Now, lost.Lost = lost.After, nil, at(4), true
		check.Must(counts.Write(t.Context(), lost))(t)
		begun(at(2), at(2), at(4))
		lost.Now = at(1) // by a clock that is behind
		check.Must(counts.Write(t.Context(), lost))(t)
		begun(at(2), at(2), at(4))
	})
}

// TestB21_StoresShareARedis: the counts of two stores in one Redis are apart.
func TestB21_StoresShareARedis(t *testing.T) {
	client := redisClient(t, redistest.Start(t).URL())
	one, other := store.NewCounts(client, "0123456789abcdef"), store.NewCounts(client, "fedcba9876543210")
	check.Must(one.Write(t.Context(), first(5)))(t)
	check.NoError(t, one.Begin(t.Context(), 6, time.Now()))
	check.NoError(t, one.Cover(t.Context(), "one", []byte("1")))
	last, found, err := other.Look(t.Context(), 5, []string{"one"}, []string{"a"})
	if err != nil || last[0].Number != 0 || found[0].Version != "" {
		t.Errorf("%v, %v, %v", last, found, err)
	}
	if all, since, err := other.Covered(t.Context()); err != nil || len(all) > 0 || !since.IsZero() {
		t.Errorf("%v since %v, %v", all, since, err)
	}
}

// TestB21_LastBatchesAreKept: the number of an instance's last batch outlives two days without a batch.
func TestB21_LastBatchesAreKept(t *testing.T) {
	client := redisClient(t, redistest.Start(t).URL())
	counts := store.NewCounts(client, "0123456789abcdef")
	check.Must(counts.Write(t.Context(), first(5)))(t)
	const key = "csu:01234567:{cs05}:seen:one"
	check.NoError(t, client.Expire(t.Context(), key, time.Minute).Err())
	check.NoError(t, counts.Keep(t.Context(), 5, []string{"none", "one"}))
	if life := check.Must(client.TTL(t.Context(), key).Result())(t); life < 47*time.Hour {
		t.Errorf("it lives for %v", life)
	}
}
