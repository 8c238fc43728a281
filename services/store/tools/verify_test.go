package tools

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/snapshot"
	"github.com/countersign/countersign/pkg/testkit/check"
)

func TestVerifyFindsNothingWrongWithAGoodStore(t *testing.T) {
	s := newSystem(t)
	s.report("validator-1", nil)
	v := s.wantClean()
	if v.StoreID != s.codec.StoreID() || v.Totals != (Totals{
		Partitions: partitions, Apps: 3 * partitions,
		Links: 6 * partitions, AuditRows: 6 * partitions,
	}) {
		t.Errorf("%+v", v)
	}
}

// TestVerifyFindsWhateverIsWrong: each kind of damage gives a finding with its place.
func TestVerifyFindsWhateverIsWrong(t *testing.T) {
	s := newSystem(t)
	keys, other := record.KeysOf(1), record.KeysOf(2)
	app, neighbour := s.app(1, 0), s.app(1, 1)
	c := s.client
	get := func(ctx context.Context, key string) string { return c.Get(ctx, key).Val() }
	rows := func(ctx context.Context, key string) []map[string]any {
		var all []map[string]any
		for _, row := range c.XRange(ctx, key, "-", "+").Val() {
			all = append(all, row.Values)
		}
		return all
	}
	// rewrite writes a stream again; without an entry, or with another in its place.
	rewrite := func(ctx context.Context, key, field string, number int, with any) {
		all := rows(ctx, key)
		c.Del(ctx, key)
		for i, row := range all {
			value := row[field]
			if i+1 == number {
				if value = with; with == nil {
					continue
				}
			}
			c.Do(ctx, "XADD", key, fmt.Sprintf("%d-0", i+1), field, value)
		}
	}
	oldDocument := c.HGet(t.Context(), keys.Policies, app).Val()
	s.add(app, "third")
	s.add(neighbour, "third")
	held := map[string]string{}
	for _, key := range c.Keys(t.Context(), "*").Val() {
		held[key] = c.Dump(t.Context(), key).Val()
	}
	for _, tt := range []struct {
		name, where, what string
		damage            func(context.Context)
	}{
		{"head missing", keys.Head, "is missing", func(ctx context.Context) { c.Del(ctx, keys.Head) }},
		{"head edited", keys.Head, "does not verify", func(ctx context.Context) { c.Append(ctx, keys.Head, "x") }},
		{
			"head of another partition", keys.Head, "does not verify",
			func(ctx context.Context) { c.Set(ctx, keys.Head, get(ctx, other.Head), 0) },
		},
		{
			"head is a list", keys.Head, "is a list and should be a string",
			func(ctx context.Context) { c.Del(ctx, keys.Head); c.LPush(ctx, keys.Head, "x") },
		},
		{
			"document edited", keys.Policies + " " + app, "does not verify",
			func(ctx context.Context) { c.HSet(ctx, keys.Policies, app, "x") },
		},
		{"document removed", keys.Policies, "do not add up", func(ctx context.Context) { c.HDel(ctx, keys.Policies, app) }},
		{"all documents removed", keys.Policies, "do not add up", func(ctx context.Context) { c.Del(ctx, keys.Policies) }},
		{
			"document of before", keys.Policies, "do not add up",
			func(ctx context.Context) { c.HSet(ctx, keys.Policies, app, oldDocument) },
		},
		{"document of another app", keys.Policies + " " + app, "does not verify", func(ctx context.Context) {
			c.HSet(ctx, keys.Policies, app, c.HGet(ctx, keys.Policies, neighbour).Val())
		}},
		{
			"field that is no app id", keys.Policies + " no app!", "is no app id",
			func(ctx context.Context) { c.HSet(ctx, keys.Policies, "no app!", "x") },
		},
		{
			"document in another partition", other.Policies + " " + app, "is in the wrong partition, want 1",
			func(ctx context.Context) {
				c.HSet(ctx, other.Policies, app, c.HGet(ctx, keys.Policies, app).Val())
			},
		},
		{"link edited", keys.Log + " 3", "does not verify", func(ctx context.Context) {
			rewrite(ctx, keys.Log,
				redisfeed.LinkField, 3, "x")
		}},
		{
			"link removed", keys.Log + " 4", "does not continue revision 2",
			func(ctx context.Context) { rewrite(ctx, keys.Log, redisfeed.LinkField, 3, nil) },
		},
		{"link under another revision", keys.Log + " 4", "is of revision 3", func(ctx context.Context) {
			rewrite(ctx, keys.Log, redisfeed.LinkField, 4, rows(ctx, keys.Log)[2][redisfeed.LinkField])
		}},
		{"last link removed", keys.Log, "ends at", func(ctx context.Context) { c.XDel(ctx, keys.Log, "8-0") }},
		{"log removed", keys.Log, "is missing", func(ctx context.Context) { c.Del(ctx, keys.Log) }},
		{"link behind the head", keys.Log + " 9", "does not verify", func(ctx context.Context) {
			c.Do(ctx, "XADD", keys.Log, "9-0", redisfeed.LinkField, "x")
		}},
		{"head of before", keys.Log + " 8", "is beyond the head", func(ctx context.Context) {
			head, err := s.codec.OpenHead(1, []byte(get(ctx, keys.Head)))
			if err != nil {
				t.Fatal(err)
			}
			head.Revision = 7
			raw, _ := s.codec.SealHead(1, head)
			c.Set(ctx, keys.Head, raw, 0)
		}},
		{
			"audit row edited", keys.Audit + " 3", "breaks off behind row 2",
			func(ctx context.Context) { rewrite(ctx, keys.Audit, redisfeed.AuditField, 3, "x") },
		},
		{
			"audit row removed", keys.Audit + " 4", "breaks off behind row 2",
			func(ctx context.Context) { rewrite(ctx, keys.Audit, redisfeed.AuditField, 3, nil) },
		},
		{
			"first audit row removed", keys.Audit + " 2", "breaks off behind row 0",
			func(ctx context.Context) { c.XDel(ctx, keys.Audit, "1-0") },
		},
		{
			"audit trail cut", keys.Audit, "ends with row 7, the head says with row 8",
			func(ctx context.Context) { c.XDel(ctx, keys.Audit, "8-0") },
		},
		{
			"audit trail removed", keys.Audit, "ends with row 0, the head says with row 8",
			func(ctx context.Context) { c.Del(ctx, keys.Audit) },
		},
		{
			"garbage in the fleet", record.FleetKey + " ghost", "countersign fleet forget ghost",
			func(ctx context.Context) { c.HSet(ctx, record.FleetKey, "ghost", "x") },
		},
		{
			"binary garbage in the fleet", record.FleetKey + " unreadable-", "countersign fleet forget unreadable-",
			func(ctx context.Context) { c.HSet(ctx, record.FleetKey, "\xff\x00", "x") },
		},
		{
			"a megabyte of garbage in the fleet", record.FleetKey + " unreadable-", "does not verify",
			func(ctx context.Context) { c.HSet(ctx, record.FleetKey, strings.Repeat("x", 1<<20), "x") },
		},
		{
			"list of validators edited", record.FleetKey, "the list of the validators is missing or does not verify",
			func(ctx context.Context) { c.HSet(ctx, record.FleetKey, record.MembersField, "x") },
		},
		{
			"list of validators removed", record.FleetKey, "the list of the validators is missing or does not verify",
			func(ctx context.Context) { c.HDel(ctx, record.FleetKey, record.MembersField) },
		},
		{"validator of the list removed", record.FleetKey + " v", "its record is missing", func(ctx context.Context) {
			c.HSet(ctx, record.FleetKey, record.MembersField,
				check.Must(s.codec.SealMembers(&record.Members{Entries: map[string]*record.Validator{"v": {
					ID: "v", InstanceID: "2",
					Sequence: 1,
				}}}))(t))
		}},
		{
			"older record of a validator of the list", record.FleetKey + " v", "its record is missing or an older one",
			func(ctx context.Context) {
				c.HSet(ctx, record.FleetKey, record.MembersField,
					check.Must(s.codec.SealMembers(&record.Members{Entries: map[string]*record.Validator{"v": {
						ID: "v", InstanceID: "2",
						Sequence: 9,
					}}}))(t))
				c.HSet(ctx, record.FleetKey, "v", check.Must(s.codec.SealValidator(&record.Validator{
					ID: "v", InstanceID: "2",
					Sequence: 8,
				}))(t))
			},
		},
		{
			"fleet of another type", record.FleetKey, "is no hash",
			func(ctx context.Context) { c.Del(ctx, record.FleetKey); c.LPush(ctx, record.FleetKey, "x") },
		},
		{
			"greatest id of the log", keys.Log + " 18446744073709551615", "does not verify",
			func(ctx context.Context) { c.Do(ctx, "XADD", keys.Log, "18446744073709551615-0", "l", "x") },
		},
		{
			"greatest id of all in the log", keys.Log + " " + lastStreamID, "stands under an id that no change has",
			func(ctx context.Context) { c.Do(ctx, "XADD", keys.Log, lastStreamID, "l", "x") },
		},
		{
			"greatest id of all in the audit trail", keys.Audit, "takes no more changes: its last id is or was " + lastStreamID,
			func(ctx context.Context) { c.Do(ctx, "XADD", keys.Audit, lastStreamID, "e", "x") },
		},
		{
			"an id that was beyond the head", keys.Log, "takes no more changes: its last id is or was 99-0",
			func(ctx context.Context) {
				c.Do(ctx, "XADD", keys.Log, "99-0", "l", "x")
				c.XDel(ctx, keys.Log, "99-0")
			},
		},
		{"second entry of a revision", keys.Log + " 8-1", "stands under an id that no change has", func(ctx context.Context) {
			c.Do(ctx, "XADD", keys.Log, "8-1", "l", rows(ctx, keys.Log)[7]["l"])
		}},
		{
			"audit row under an id of no row", keys.Audit, "its last id is or was 8-5",
			func(ctx context.Context) { c.Do(ctx, "XADD", keys.Audit, "8-5", "e", "x") },
		},
		{
			"cs:fleet is a string", record.FleetKey, "is a string and should be a hash",
			func(ctx context.Context) { c.Set(ctx, record.FleetKey, "x", 0) },
		},
		{
			"a request key is a set", "cs:{cs01}:request:00000000000000000000000000000000", "is a set and should be a string",
			func(ctx context.Context) {
				c.SAdd(ctx, "cs:{cs01}:request:00000000000000000000000000000000", "x")
			},
		},
		{
			"stray key", "cs:{cs01}:extra", "does not belong here",
			func(ctx context.Context) { c.Set(ctx, "cs:{cs01}:extra", "x", 0) },
		},
		{
			"partition beyond", "cs:{cs04}:head", "does not belong here",
			func(ctx context.Context) { c.Set(ctx, "cs:{cs04}:head", "x", 0) },
		},
		{
			"spelled otherwise", "cs:{cs001}:head", "does not belong here",
			func(ctx context.Context) { c.Set(ctx, "cs:{cs001}:head", "x", 0) },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.damage(t.Context())
			v := check.Must(s.tools.Verify(t.Context()))(t)
			if !has(v.Findings, tt.where, tt.what) || len(v.Findings) > 5 {
				t.Errorf("found %v, want %s: ...%s...", v.Findings, tt.where, tt.what)
			}
			c.FlushAll(t.Context())
			for key, dump := range held {
				if err := c.Restore(t.Context(), key, 0, dump).Err(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	s.wantClean()
}

func TestVerifyFileFindsWhatABackupOfADamagedStoreHas(t *testing.T) {
	s := newSystem(t)
	good := s.backup()
	if v, kind, err := s.tools.VerifyFile(t.Context(), good); err != nil || kind != snapshot.Backup || len(v.Findings) > 0 ||
		v.Totals.Links != 6*partitions {
		t.Errorf("%+v, %v, %v", v, kind, err)
	}
	keys := record.KeysOf(2)
	s.client.HSet(t.Context(), keys.Policies, s.app(2, 0), "x")
	s.client.XDel(t.Context(), keys.Audit, "2-0")
	bad := good + ".bad"
	done, err := s.tools.Backup(t.Context(), bad, true)
	if err != nil || len(done.Findings) != 3 {
		t.Errorf("%+v, %v", done, err)
	}
	v, _, err := s.tools.VerifyFile(t.Context(), bad)
	if err != nil || len(v.Findings) != len(done.Findings) || !has(v.Findings, keys.Audit+" 3", "breaks off behind row 1") {
		t.Errorf("%+v, %v", v, err)
	}
	if _, _, err := s.tools.VerifyFile(t.Context(), good+".missing"); err == nil {
		t.Error("a missing file verifies")
	}
}
