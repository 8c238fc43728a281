package tools

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/check"
)

// load restores the dumped keys of the Redis.
func (s *system) load(held map[string]string) {
	s.t.Helper()
	s.flush()
	for key, dump := range held {
		if err := s.client.Restore(s.t.Context(), key, 0, dump).Err(); err != nil {
			s.t.Fatal(err)
		}
	}
}

// undecided is the result of stored for an app whose document does not verify.
const undecided policy.State = 99

// stored returns the state of a token in the stored document; 0 when it is missing.
func (s *system) stored(appID, name string) policy.State {
	s.t.Helper()
	raw, err := s.client.HGet(s.t.Context(), record.KeysOf(s.codec.PartitionOf(appID)).Policies, appID).Bytes()
	if err != nil {
		return 0
	}
	d, err := s.codec.OpenDocument(appID, raw)
	if err != nil {
		return undecided
	}
	for _, token := range d.Tokens {
		if token.ID == appID+"/"+name {
			return token.State
		}
	}
	return 0
}

// do sends a command.
func (s *system) do(args ...any) {
	s.t.Helper()
	if err := s.client.Do(s.t.Context(), args...).Err(); err != nil {
		s.t.Fatalf("%v: %v", args, err)
	}
}

// repair repairs the store and checks that everything that was not refused verifies.
func (s *system) repair(files ...string) *RepairPlan {
	s.t.Helper()
	before := s.dump()
	plan := check.Must(s.tools.PlanRepair(s.t.Context(), RepairOptions{Files: files}))(s.t)
	if after := s.dump(); fmt.Sprint(after) != fmt.Sprint(before) {
		s.t.Error("a plan changes the store")
	}
	if err := s.tools.Repair(s.t.Context(), plan); err != nil {
		s.t.Fatal(err)
	}
	return plan
}

// TestB08_HalfOfAChangeIsMended: the store has any subset of the writes of a change. A proven change counts
// as made. When only the audit trail has it, its app becomes undecided. When only the head has it, the repair
// is refused. A token that the change has revoked never becomes active.
func TestB08_HalfOfAChangeIsMended(t *testing.T) {
	for name, change := range map[string]func(s *system) string{
		"revocation": func(s *system) string { app := s.app(1, 1); s.revoke(app, "first"); return app },
		"new app": func(s *system) string {
			app := s.app(1, 5)
			s.add(app, "first")
			return app
		},
	} {
		s := newSystem(t)
		before := s.dump()
		app := change(s)
		keys := record.KeysOf(1)
		var writes [4][]any
		entries := s.client.XRevRangeN(t.Context(), keys.Log, "+", "-", 1).Val()
		writes[0] = []any{"XADD", keys.Log, entries[0].ID, redisfeed.LinkField, entries[0].Values[redisfeed.LinkField]}
		rows := s.client.XRevRangeN(t.Context(), keys.Audit, "+", "-", 1).Val()
		writes[1] = []any{"XADD", keys.Audit, rows[0].ID, redisfeed.AuditField, rows[0].Values[redisfeed.AuditField]}
		writes[2] = []any{"HSET", keys.Policies, app, s.client.HGet(t.Context(), keys.Policies, app).Val()}
		writes[3] = []any{"SET", keys.Head, s.client.Get(t.Context(), keys.Head).Val()}
		const link, row, document, head = 1, 2, 4, 8
		for made := range 16 {
			t.Run(fmt.Sprintf("%s %04b", name, made), func(t *testing.T) {
				s.t = t
				s.load(before)
				for i, write := range writes {
					if made&(1<<i) != 0 {
						s.do(write...)
					}
				}
				v := check.Must(s.tools.Verify(t.Context()))(t)
				if whole := made == 0 || made == 15; whole != (len(v.Findings) == 0) {
					t.Fatalf("verify: %v", v.Findings)
				}
				plan := s.repair()
				if made == 0 || made == 15 {
					if len(plan.Partitions) > 0 {
						t.Errorf("something is wrong with a whole store: %+v", plan.Partitions[0])
					}
					return
				}
				m := plan.Partitions[0]
				if made&^row == head {
					// Only the head shows the change.
					if known := made&row != 0; known != (m.Refused == "") || known && !slices.Equal(m.Undecided, []string{app}) {
						t.Errorf("%+v", m)
					}
					if m.Refused != "" && s.client.Get(t.Context(), keys.Head).Val() != writes[3][2] {
						t.Error("what was refused was changed")
					}
					return
				}
				if m.Refused != "" || !m.Changes {
					t.Fatalf("%+v", m)
				}
				v = check.Must(s.tools.Verify(t.Context()))(t)
				if made&(link|document) == 0 {
					// Only the audit trail shows the change.
					if !slices.Equal(m.Undecided, []string{app}) || s.stored(app, "first") != undecided {
						t.Errorf("%+v; the token is %d", m, s.stored(app, "first"))
					}
					if again := s.repair(); len(again.Partitions) != 1 || again.Partitions[0].Changes {
						t.Errorf("it is mended again: %+v", again.Partitions)
					}
					return
				}
				want := policy.Active
				if name == "revocation" {
					want = policy.Revoked
				}
				if got := s.stored(app, "first"); got != want || len(v.Findings) > 0 || len(m.Undecided) > 0 {
					t.Errorf("the token is %d, want %d; %v; %+v", got, want, v.Findings, m)
				}
				if again := s.repair(); len(again.Partitions) > 0 {
					t.Errorf("something is wrong still: %+v", again.Partitions[0])
				}
			})
		}
		s.t = t
	}
}

// TestRepairOfWhatIsLost: each part of a partition is rebuilt from other records. Every other app stays as it
// was, and the store accepts changes afterwards.
func TestRepairOfWhatIsLost(t *testing.T) {
	s := newSystem(t)
	backup := s.backup()
	app, other := s.app(1, 0), s.app(1, 1)
	oldDocument := s.client.HGet(t.Context(), record.KeysOf(1).Policies, app).Val()
	running, stop := s.follow()
	s.revoke(app, "first")
	s.add(other, "third")
	held := s.dump()
	check.Eventually(t, "following", func() error {
		if state(running, other, "third") != policy.Active {
			return errors.New("not there yet")
		}
		return nil
	})
	snapshot := s.replicaFileOf(running)
	stop()
	keys := record.KeysOf(1)
	c := s.client
	trim := func(ctx context.Context) { c.Do(ctx, "XTRIM", keys.Log, "MAXLEN", "=", 1) }
	for _, tt := range []struct {
		name   string
		damage func(ctx context.Context)
		files  []string
		// refused is a part of the reason for a refusal; undecided are apps without a policy afterwards.
		refused   string
		undecided []string
	}{
		{name: "head missing", damage: func(ctx context.Context) { c.Del(ctx, keys.Head) }},
		{name: "head damaged", damage: func(ctx context.Context) { c.Append(ctx, keys.Head, "x") }},
		{name: "head is a list", damage: func(ctx context.Context) { c.Del(ctx, keys.Head); c.LPush(ctx, keys.Head, "x") }},
		{
			name: "head and trail missing", damage: func(ctx context.Context) { c.Del(ctx, keys.Head, keys.Audit) },
			refused: "do not name all apps",
		},
		{
			name: "head and trail missing, with a backup", damage: func(ctx context.Context) { c.Del(ctx, keys.Head, keys.Audit) },
			files: []string{backup},
		},
		{
			name: "head and log missing", damage: func(ctx context.Context) { c.Del(ctx, keys.Head, keys.Log) },
			refused: "do not name all apps",
		},
		{
			name:   "head and log missing, with a backup and a snapshot",
			damage: func(ctx context.Context) { c.Del(ctx, keys.Head, keys.Log) }, files: []string{backup, snapshot},
		},
		{
			name:    "head and trail missing, the log begins after the first change",
			damage:  func(ctx context.Context) { c.Del(ctx, keys.Head, keys.Audit); c.XDel(ctx, keys.Log, "1-0") },
			refused: "do not name all apps",
		},
		{name: "document damaged", damage: func(ctx context.Context) { c.HSet(ctx, keys.Policies, app, "x") }},
		{name: "document missing", damage: func(ctx context.Context) { c.HDel(ctx, keys.Policies, app) }},
		{name: "document of before a revocation", damage: func(ctx context.Context) {
			c.HSet(ctx, keys.Policies, app,
				oldDocument)
		}},
		{name: "document damaged, log trimmed", damage: func(ctx context.Context) {
			trim(ctx)
			c.HSet(ctx, keys.Policies, app,
				"x")
		}, undecided: []string{app}},
		{name: "document of before, log trimmed", damage: func(ctx context.Context) {
			trim(ctx)
			c.HSet(ctx, keys.Policies, app,
				oldDocument)
		}, undecided: []string{app}},
		{name: "document missing, log trimmed", damage: func(ctx context.Context) {
			trim(ctx)
			c.HDel(ctx, keys.Policies,
				app)
		}, undecided: []string{app}},
		{name: "document missing, log trimmed, no trail", damage: func(ctx context.Context) {
			trim(ctx)
			c.HDel(ctx,
				keys.Policies, app)
			c.Del(ctx, keys.Audit)
		}, refused: "do not name all apps"},
		{
			name:   "document missing, log trimmed, with a backup alone",
			damage: func(ctx context.Context) { trim(ctx); c.HDel(ctx, keys.Policies, app) }, files: []string{backup},
			undecided: []string{app},
		},
		{
			name:   "document missing, log trimmed, with a backup and a snapshot",
			damage: func(ctx context.Context) { trim(ctx); c.HDel(ctx, keys.Policies, app) }, files: []string{backup, snapshot},
		},
		{name: "policies missing", damage: func(ctx context.Context) { c.Del(ctx, keys.Policies) }},
		{name: "policies are a set", damage: func(ctx context.Context) {
			c.Del(ctx, keys.Policies)
			c.SAdd(ctx, keys.Policies,
				"x")
		}},
		{name: "log missing", damage: func(ctx context.Context) { c.Del(ctx, keys.Log) }},
		{name: "log is a string", damage: func(ctx context.Context) { c.Set(ctx, keys.Log, "x", 0) }},
		{name: "link damaged", damage: func(ctx context.Context) {
			c.XDel(ctx, keys.Log, "7-0", "8-0")
			c.Do(ctx, "XADD", keys.Log, "8-1", "l", "x")
		}},
		{name: "greatest id in the log", damage: func(ctx context.Context) {
			c.Do(ctx, "XADD", keys.Log, lastStreamID, "l",
				"x")
		}},
		{name: "greatest revision in the log", damage: func(ctx context.Context) {
			c.Do(ctx, "XADD", keys.Log,
				"18446744073709551615-0", "l", "x")
		}},
		{name: "greatest id in the trail", damage: func(ctx context.Context) {
			c.Do(ctx, "XADD", keys.Audit, lastStreamID, "e",
				"x")
		}},
		{name: "trail cut", damage: func(ctx context.Context) { c.XDel(ctx, keys.Audit, "8-0") }},
		{name: "trail is a hash", damage: func(ctx context.Context) { c.Del(ctx, keys.Audit); c.HSet(ctx, keys.Audit, "x", "x") }},
		{name: "stray fields", damage: func(ctx context.Context) {
			c.HSet(ctx, keys.Policies, "no app!", "x", s.app(1, 40), "x", s.app(2, 0), "x")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.t = t
			s.load(held)
			tt.damage(t.Context())
			if v := check.Must(s.tools.Verify(t.Context()))(t); len(v.Findings) == 0 {
				t.Fatal("nothing is wrong")
			}
			damaged := s.dump()
			plan := s.repair(tt.files...)
			if len(plan.Partitions) != 1 || plan.Partitions[0].Partition != 1 && !strings.Contains(tt.name, "stray") {
				t.Fatalf("%+v", plan)
			}
			m := plan.Partitions[0]
			if tt.refused != "" {
				if !strings.Contains(m.Refused, tt.refused) || fmt.Sprint(s.dump()) != fmt.Sprint(damaged) {
					t.Errorf("%+v, want a refusal that says %q", m, tt.refused)
				}
				return
			}
			if m.Refused != "" || !slices.Equal(m.Undecided, tt.undecided) && len(m.Undecided)+len(tt.undecided) > 0 {
				t.Fatalf("%+v", m)
			}
			v := check.Must(s.tools.Verify(t.Context()))(t)
			if len(tt.undecided) == 0 && len(v.Findings) > 0 || v.Totals.Apps != uint64(3*partitions-len(tt.undecided)) {
				t.Errorf("after it: %+v", v)
			}
			wantFirst := policy.Revoked
			if len(tt.undecided) > 0 {
				wantFirst = undecided
			}
			if got := s.stored(app, "first"); got != wantFirst || s.stored(other, "third") != policy.Active ||
				s.stored(s.app(2, 0), "second") != policy.Active {
				t.Errorf("%d, %d, %d", got, s.stored(other, "third"), s.stored(s.app(2, 0), "second"))
			}
		})
	}
	s.t = t
}

// TestRepairOfAStoreThatIsChangedMeanwhile: the repair is planned again, and no change that was acknowledged
// after the plan is lost.
func TestRepairOfAStoreThatIsChangedMeanwhile(t *testing.T) {
	s := newSystem(t)
	app := s.app(1, 0)
	s.do("HSET", record.KeysOf(1).Policies, "no app!", "x")
	plan := check.Must(s.tools.PlanRepair(t.Context(), RepairOptions{}))(t)
	s.revoke(app, "first")
	if err := s.tools.Repair(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	if got := s.stored(app, "first"); got != policy.Revoked || plan.Epochs != [2]uint64{2, 2} {
		t.Errorf("the token is %d; %+v", got, plan)
	}
	s.wantClean()
}

// TestB08_RunningReplicasCrossToARepairedStore: running replicas follow a repaired store and keep their
// orphans. The authority keeps working.
func TestB08_RunningReplicasCrossToARepairedStore(t *testing.T) {
	s := newSystem(t)
	app := s.app(1, 0)
	running, _ := s.follow()
	s.revoke(app, "first")
	s.do("HSET", record.KeysOf(1).Policies, app, "x")
	if plan := s.repair(); !slices.Equal(plan.Partitions[0].Apps, []string{app}) {
		t.Errorf("%+v", plan.Partitions[0])
	}
	check.Eventually(t, "crossing", func() error {
		if at := running.Cursors()[1]; at.Epoch != 2 || state(running, app, "first") != policy.Revoked {
			return fmt.Errorf("at %s", at)
		}
		return nil
	})
	s.heal()
	check.Eventually(t, "changing the store", func() error { return s.change(app, "Add", addToken(app, "third")) })
	s.wantClean()
}

// TestRepairOfMetaAndFleet: a missing meta is taken from a file, and keys of a wrong type are removed.
func TestRepairOfMetaAndFleet(t *testing.T) {
	s := newSystem(t)
	path := s.backup()
	for _, key := range []string{record.MetaKey, record.FleetKey, record.KeysOf(1).Request("admin", "Add", s.app(1, 0), "id")} {
		s.do("DEL", key)
		s.do("LPUSH", key, "x")
	}
	if _, err := s.tools.PlanRepair(t.Context(), RepairOptions{}); err == nil ||
		!strings.Contains(err.Error(), record.MetaKey) || !strings.Contains(err.Error(), "--from") {
		t.Errorf("without a file: %v", err)
	}
	plan := s.repair(path)
	if !plan.Meta || len(plan.Removed) != 2 || len(plan.Partitions) > 0 {
		t.Errorf("%+v", plan)
	}
	if found := check.Must(s.tools.Verify(t.Context()))(t).Findings; len(found) != 1 ||
		!strings.Contains(found[0].String(), record.UnknownMembers) {
		t.Errorf("found %v, want that the members are unknown: only an operator can say who they were", found)
	}
	s.do("SET", restoreKey, check.Must(record.SealMeta(s.ring, s.codec.Meta()))(t))
	if _, err := s.tools.PlanRepair(t.Context(), RepairOptions{}); !errors.Is(err, errRestoring) {
		t.Errorf("during a restoration: %v", err)
	}
}

// TestRepairSaysInTheAuditTrailWhatItDid: audit rows name the rebuilt apps, the undecided apps and everything
// that was removed.
func TestRepairSaysInTheAuditTrailWhatItDid(t *testing.T) {
	s := newSystem(t)
	keys := record.KeysOf(1)
	undecided := s.app(1, 0)
	s.do("HDEL", keys.Policies, undecided)
	s.do("HSET", keys.Policies, "no app!\x00", "x")
	s.do("DEL", keys.Log)
	s.do("LPUSH", keys.Log, "x")
	m := s.repair().Partitions[0]
	if !slices.Equal(m.Undecided, []string{undecided}) {
		t.Fatalf("%+v", m)
	}
	var tail record.AuditTail
	var rows []string
	for _, row := range s.client.XRange(t.Context(), keys.Audit, "-", "+").Val() {
		event, next, err := s.codec.OpenAudit(1, tail, []byte(row.Values[redisfeed.AuditField].(string)))
		if err != nil {
			t.Fatal(err)
		}
		if tail = next; event.GetMethod() == "Repair" {
			words := event.GetAppId()
			for _, g := range event.GetGivenUp() {
				words += fmt.Sprintf("; %s: %s", g.GetField(), g.GetGivenUp())
			}
			rows = append(rows, words)
		}
	}
	want := []string{undecided + "; change: revision 2", `; key: ` + keys.Log + `, a list; field: "no app!\x00"`}
	if !slices.Equal(rows, want) {
		t.Errorf("%q, want %q", rows, want)
	}
}
