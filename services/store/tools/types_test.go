package tools

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/services/store"
)

// redisTypes makes a key of each type, by Redis's name of the type.
var redisTypes = map[string]func(ctx context.Context, c *redisfeed.Client, key string) error{
	"string": func(ctx context.Context, c *redisfeed.Client, key string) error { return c.Set(ctx, key, "x", 0).Err() },
	"hash": func(ctx context.Context, c *redisfeed.Client, key string) error {
		return c.HSet(ctx, key, "f", "x").Err()
	},
	"list": func(ctx context.Context, c *redisfeed.Client, key string) error { return c.LPush(ctx, key, "x").Err() },
	"set":  func(ctx context.Context, c *redisfeed.Client, key string) error { return c.SAdd(ctx, key, "x").Err() },
	"stream": func(ctx context.Context, c *redisfeed.Client, key string) error {
		return c.Do(ctx, "XADD", key, "1-0", "f", "x").Err()
	},
}

// TestKeysOfAnyTypeAreNamedAndReplaced: whatever the type of any key, every command ends, and names the key
// or does its work. `restore --replace` then makes a store that verifies and is followed. A malformed string
// counts as a type here.
func TestKeysOfAnyTypeAreNamedAndReplaced(t *testing.T) {
	s := newSystem(t)
	s.report("validator-1", nil)
	path := s.backup()
	held := s.dump()
	keys := record.KeysOf(1)
	request := keys.Request("admin", "Add", s.app(1, 0), "id")
	staged := asideNames(keys, "restore-0000abcd")
	for key, want := range map[string]string{
		record.MetaKey: "string", record.FleetKey: "hash", restoreKey: "string", "cs:init": "string",
		keys.Head: "string", keys.Policies: "hash", keys.Log: "stream", keys.Audit: "stream", request: "string",
		staged[0]: "hash", staged[1]: "stream", staged[2]: "stream",
	} {
		for kind, put := range redisTypes {
			t.Run(fmt.Sprintf("%s is a %s", key, kind), func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				s.t = t
				s.flush()
				for name, dump := range held {
					if err := s.client.Restore(ctx, name, 0, dump).Err(); err != nil {
						t.Fatal(err)
					}
				}
				if err := errors.Join(s.client.Del(ctx, key).Err(), put(ctx, s.client, key)); err != nil {
					t.Fatal(err)
				}
				named := func(what string, err error) {
					t.Helper()
					if err == nil || !strings.Contains(err.Error(), key) {
						t.Errorf("%s says: %v", what, err)
					}
				}
				v, err := s.tools.Verify(ctx)
				_, statusErr := s.tools.Status(ctx)
				_, planErr := s.tools.PlanAdoption(ctx, 0)
				if key == record.MetaKey {
					for what, err := range map[string]error{"verify": err, "status": statusErr, "adopt": planErr} {
						named(what, err)
					}
				} else {
					if statusErr != nil {
						t.Errorf("status: %v", statusErr)
					}
					if err != nil || !has(v.Findings, key, "") && !((key == request || key == record.FleetKey) && kind == want) {
						t.Errorf("verify: %v, %v", v.Findings, err)
					}
					if key == keys.Head || kind != want && (key == keys.Policies || key == keys.Log || key == keys.Audit ||
						key == record.FleetKey) {
						named("adopt", planErr)
					}
				}
				// A backup of damaged partitions is refused. Keys outside of partitions do not matter to it.
				if _, err := s.tools.Backup(ctx, path+".other", false); err != nil && !errors.Is(err, ErrDamaged) &&
					!strings.Contains(err.Error(), key) {
					t.Errorf("backup: %v", err)
				}
				if _, err := s.tools.Restore(ctx, path, RestoreOptions{}); !errors.Is(err, ErrNotEmpty) {
					t.Errorf("restore without --replace: %v", err)
				}
				done, err := s.tools.Restore(ctx, path, RestoreOptions{Replace: true})
				if err != nil || done.Epochs[0] < 2 {
					t.Fatalf("restore --replace: %+v, %v", done, err)
				}
				switch key {
				case "cs:init":
					s.client.Del(ctx, key) // it is not of this store
				case record.FleetKey:
					s.client.HDel(ctx, key, "f") // a hash is the right type; what is in it is for `countersign fleet forget`
				}
				if v := check.Must(s.tools.Verify(ctx))(t); len(v.Findings) > 0 || v.Totals.Apps != 3*partitions {
					t.Errorf("after it: %+v", v)
				}
				if err := store.NewFleet(s.client).Write(ctx, map[string][]byte{"validator-2": []byte("x")}); err != nil {
					t.Errorf("reports after it: %v", err)
				}
			})
		}
	}
	s.t = t
}

// TestKeysOfAnotherTypeWhileProcessesRun: a loaded process keeps deciding, a starting one names the key, and
// both work after `restore --replace`.
func TestKeysOfAnotherTypeWhileProcessesRun(t *testing.T) {
	s := newSystem(t)
	path := s.backup()
	keys := record.KeysOf(1)
	// The replicas have crossed an epoch when the head is lost: what is restored must be above it.
	types := map[string]string{keys.Head: "string", keys.Policies: "hash", keys.Log: "stream"}
	for _, key := range []string{keys.Policies, keys.Head, keys.Log} {
		t.Run(key, func(t *testing.T) {
			want := types[key]
			s.t = t
			running, _ := s.follow()
			kind := "list"
			if err := errors.Join(s.client.Del(t.Context(), key).Err(), redisTypes[kind](t.Context(), s.client, key)); err != nil {
				t.Fatal(err)
			}
			if got := state(running, s.app(1, 0), "first"); got != policy.Active {
				t.Errorf("the one that runs: %d", got)
			}
			var log lines
			fresh := replica.New(redisfeed.New(s.client, partitions), s.codec, slog.New(slog.NewTextHandler(&log, nil)))
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- fresh.Run(ctx) }()
			defer func() { cancel(); <-ended }()
			check.Eventually(t, "naming it", func() error {
				if text := log.String(); !strings.Contains(text, key+" ") || fresh.Unloaded() == nil && key != keys.Log {
					return fmt.Errorf("want %s, a %s, in %s", key, want, text)
				}
				return nil
			})
			check.Must(s.tools.Restore(t.Context(), path, RestoreOptions{Replace: true}))(t)
			s.reopen()
			s.heal()
			raw := check.Must(s.client.Get(t.Context(), keys.Head).Bytes())(t)
			head := check.Must(s.codec.OpenHead(1, raw))(t).Cursor
			for _, r := range []*replica.Replica{running, fresh} {
				check.Eventually(t, "crossing", func() error {
					if r.Unloaded() != nil || r.Forked(1) || r.Cursors()[1] != head {
						return fmt.Errorf("at %s, want %s; forked: %t, unloaded: %w", r.Cursors()[1], head, r.Forked(1), r.Unloaded())
					}
					return nil
				})
			}
			s.wantClean()
		})
	}
	s.t = t
}

// TestRestoreReplacesAStoreWhoseMetaIsDamaged: only when a head shows that the store belongs to the key ring.
func TestRestoreReplacesAStoreWhoseMetaIsDamaged(t *testing.T) {
	s := newSystem(t)
	path := s.backup()
	raw := check.Must(s.client.Get(t.Context(), record.MetaKey).Bytes())(t)
	raw[len(raw)-1] ^= 1
	s.client.Set(t.Context(), record.MetaKey, raw, 0)
	check.Must(s.tools.Restore(t.Context(), path, RestoreOptions{Replace: true}))(t)
	s.wantClean()
	s.client.Set(t.Context(), record.MetaKey, raw, 0)
	for i := range partitions {
		s.client.Set(t.Context(), record.KeysOf(i).Head, "x", 0)
	}
	if _, err := s.tools.Restore(t.Context(), path, RestoreOptions{Replace: true}); err == nil ||
		!strings.Contains(err.Error(), "another key ring") {
		t.Errorf("a store of which nothing is known to be ours: %v", err)
	}
}
