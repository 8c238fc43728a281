package tools

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/snapshot"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/store"
)

// TestB08_RestoreOfAWipedStore: running replicas follow the restored store, keep every revocation that they
// have seen, and report what they hold beyond it. The documents equal those of the backup to the byte.
func TestB08_RestoreOfAWipedStore(t *testing.T) {
	s := newSystem(t)
	app, later := s.app(1, 0), s.app(1, 1)
	documents := s.client.HGetAll(t.Context(), record.KeysOf(1).Policies).Val()
	path := s.backup()
	running, _ := s.follow()
	s.revoke(app, "first")
	s.add(later, "third")
	check.Eventually(t, "following", func() error {
		if state(running, later, "third") != policy.Active {
			return errors.New("not there yet")
		}
		return nil
	})
	last := running.Cursors()[1]
	s.flush()
	if _, err := s.tools.Verify(t.Context()); !errors.Is(err, redisfeed.ErrNotInitialised) {
		t.Errorf("a wiped store: %v", err)
	}
	done := check.Must(s.tools.Restore(t.Context(), path, RestoreOptions{}))(t)
	if done.Epochs != [2]uint64{2, 2} || done.StoreID != s.codec.StoreID() || done.Totals.Apps != 3*partitions ||
		len(done.Findings) > 0 {
		t.Errorf("%+v", done)
	}
	s.wantClean()
	if got := s.client.HGetAll(t.Context(), record.KeysOf(1).Policies).Val(); fmt.Sprint(got) != fmt.Sprint(documents) {
		t.Error("the documents are not those of the backup")
	}
	crossed(t, running, 2)
	fresh, _ := s.follow()
	if state(running, app, "first") != policy.Revoked || state(fresh, app, "first") != policy.Active ||
		state(running, later, "third") != 0 {
		t.Errorf("running: %d, %d; fresh: %d", state(running, app, "first"), state(running, later, "third"),
			state(fresh, app, "first"))
	}
	if n := len(running.Orphans(1)); n != 2 {
		t.Errorf("%d changes are known beyond the backup, want 2", n)
	}
	if at := running.Cursors()[1]; at.Revision < last.Revision+revisionJump/2 {
		t.Errorf("from %s to %s", last, at)
	}

	// The authority keeps working, and the log and the audit trail have the start of the epoch.
	if err := s.change(s.app(1, 0), "Add", addToken(s.app(1, 0), "early")); apierr.ReasonOf(err) != apierr.StoreUnhealed {
		t.Errorf("a change before the store is healed: %v", err)
	}
	s.heal()
	check.Eventually(t, "changing the store", func() error { return s.change(later, "Add", addToken(later, "fourth")) })
	s.wantClean()
	entries := s.client.XRange(t.Context(), record.KeysOf(1).Log, "-", "+").Val()
	start := check.Must(s.codec.OpenEpoch(1, []byte(entries[6].Values[redisfeed.EpochField].(string))))(t)
	if start.Cause != countersignv1.EpochCause_EPOCH_CAUSE_RESTORED || start.Previous.Revision != 6 || start.Epoch != 2 {
		t.Errorf("%+v", start)
	}
	c := &checker{codec: s.codec}
	events := 0
	if err := s.tools.reader(s.codec).exportPartition(t.Context(), 1, events1{c, func(raw []byte) {
		if event, _, err := s.codec.OpenAudit(1, c.audit, raw); err == nil && event.GetMethod() == "Restore" &&
			event.GetRevision() == start.Revision {
			events++
		}
	}}); err != nil || events != 1 {
		t.Errorf("%d audit rows of the restoration, %v", events, err)
	}
}

// events1 observes audit rows on their way to a sink.
type events1 struct {
	snapshot.Sink
	look func([]byte)
}

func (e events1) Audit(sequence uint64, raw []byte) error {
	e.look(raw)
	return e.Sink.Audit(sequence, raw)
}

// TestB30_RestoringIntoAnEmptyRedisBeginsAListThatMayLackValidators: running validators are in no list then,
// and an authority has to wait for their reports. A store that is replaced keeps its list.
func TestB30_RestoringIntoAnEmptyRedisBeginsAListThatMayLackValidators(t *testing.T) {
	for _, empty := range []bool{false, true} {
		s := newSystem(t)
		path := s.backup()
		meta := s.codec.Meta()
		check.Must(store.BeginFleet(t.Context(), s.client, s.codec, meta.CreateTime, true))(t)
		if empty {
			s.flush()
		}
		check.Must(s.tools.Restore(t.Context(), path, RestoreOptions{Replace: !empty}))(t)
		raw := check.Must(s.client.HGet(t.Context(), record.FleetKey, record.MembersField).Bytes())(t)
		if list := check.Must(s.codec.OpenMembers(raw))(t); list.BegunWith(meta) == empty {
			t.Errorf("into an empty Redis: %t; the list was begun at %s, the store at %s", empty, list.Since, meta.CreateTime)
		}
	}
}

func TestRestoreTakesNothingAwayUnasked(t *testing.T) {
	s := newSystem(t)
	path := s.backup()
	replicaFile := s.replicaFile()
	s.client.HSet(t.Context(), record.KeysOf(0).Policies, s.app(0, 0), "x")
	damaged := filepath.Join(t.TempDir(), "damaged")
	check.Must(s.tools.Backup(t.Context(), damaged, true))(t)
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, check.Must(os.ReadFile(path))(t)[:1000], 0o600); err != nil {
		t.Fatal(err)
	}
	held := s.dump()
	for name, tt := range map[string]struct {
		path    string
		tools   *Tools
		options RestoreOptions
		want    string
	}{
		"store there":     {path, s.tools, RestoreOptions{}, ErrNotEmpty.Error()},
		"damaged backup":  {damaged, s.tools, RestoreOptions{Replace: true}, ErrDamaged.Error()},
		"cut file":        {garbage, s.tools, RestoreOptions{Replace: true}, "is cut"},
		"no file":         {garbage + "2", s.tools, RestoreOptions{Replace: true}, "no such file"},
		"another ring":    {path, New(s.client, keyring.Generate()), RestoreOptions{Replace: true}, "unknown key"},
		"without names":   {replicaFile, s.tools, RestoreOptions{Replace: true}, ErrNoNames.Error()},
		"rest of a store": {path, s.tools, RestoreOptions{}, ErrNotEmpty.Error()},
		"other store's ring": {
			s.foreignFile(), New(s.client, otherRing),
			RestoreOptions{Replace: true},
			"another key ring has signed",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "rest of a store" {
				s.client.Del(t.Context(), record.MetaKey)
				defer s.client.Restore(t.Context(), record.MetaKey, 0, held[record.MetaKey])
			}
			if _, err := tt.tools.Restore(t.Context(), tt.path, tt.options); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	if now := s.dump(); fmt.Sprint(now) != fmt.Sprint(held) {
		t.Error("something was changed")
	}
}

func (s *system) dump() map[string]string {
	all := map[string]string{}
	for _, key := range s.client.Keys(s.t.Context(), "*").Val() {
		all[key] = s.client.Dump(s.t.Context(), key).Val()
	}
	return all
}

var otherRing = keyring.Generate()

// foreignFile is a backup of a store under another key ring.
func (s *system) foreignFile() string {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), "foreign")
	file := check.Must(snapshot.Create(path, otherRing, record.Meta{
		StoreID: "foreign", Partitions: 1,
		CreateTime: time.Now(),
	}, snapshot.Backup))(s.t)
	codec := record.NewCodec(otherRing, record.Meta{StoreID: "foreign", Partitions: 1})
	head := check.Must(codec.SealHead(0, record.Head{
		Cursor: record.Cursor{Epoch: 1},
		State:  codec.SealSum(0, record.Sum{}),
	}))(s.t)
	if err := errors.Join(file.Partition(0, head), file.Commit()); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// replicaFile is a snapshot as a validator writes it.
func (s *system) replicaFile() string {
	s.t.Helper()
	r, stop := s.follow()
	defer stop()
	return s.replicaFileOf(r)
}

func TestInterruptedRestoreIsRepeatedAndServesNobodyMeanwhile(t *testing.T) {
	s := newSystem(t)
	path := s.backup()
	running, _ := s.follow()
	for _, replace := range []bool{false, true} {
		if !replace {
			s.flush()
		}
		// The account has no right to write partition 2.
		if err := s.client.Do(t.Context(), "ACL", "SETUSER", "limited", "reset", "on", ">limited", "+@all", "~cs:meta",
			"~cs:restore",
			"~cs:fleet", "~cs:{cs00}:*", "~cs:{cs01}:*", "%R~cs:{cs02}:*").Err(); err != nil {
			t.Fatal(err)
		}
		limited := New(clientOf(t, redistest.URL(s.redis.Address(), "limited", "limited")), s.ring)
		_, err := limited.Restore(t.Context(), path, RestoreOptions{Replace: replace})
		if err == nil || !strings.Contains(err.Error(), "2 of 4 partitions are restored: give the same command again") {
			t.Fatal(err)
		}
		if _, err := s.client.Meta(t.Context(), s.ring); !replace && !errors.Is(err, redisfeed.ErrNotInitialised) {
			t.Errorf("somebody may start with half a store: %v", err)
		}
		s.client.Set(t.Context(), "cs:{cs01}:log:restore-01234567", "left behind", 0)
		check.Must(s.tools.Restore(t.Context(), path, RestoreOptions{Replace: replace}))(t)
		s.wantClean()
	}
	check.Eventually(t, "crossing", func() error {
		for _, at := range running.Cursors() {
			if at.Epoch < 3 {
				return fmt.Errorf("at %s", at)
			}
		}
		return nil
	})
}

// TestRestoreBeginsAboveAllThatIsKnown: the epoch begins above the file, the store, the validators' reports
// and the operator's epoch.
func TestRestoreBeginsAboveAllThatIsKnown(t *testing.T) {
	s := newSystem(t)
	path := s.backup()
	s.report("validator-1", map[int]record.Cursor{1: {Epoch: 7, Revision: 5_000_000_000, Tag: record.NewTag()}})
	done := check.Must(s.tools.Restore(t.Context(), path, RestoreOptions{Replace: true}))(t)
	if done.Epochs != [2]uint64{2, 8} || done.Starts[1].Revision != 6_000_000_000 || done.Starts[0].Revision != 1_000_000_006 {
		t.Errorf("%+v", done)
	}
	done = check.Must(s.tools.Restore(t.Context(), path, RestoreOptions{Replace: true, AboveEpoch: 5}))(t)
	if done.Epochs != [2]uint64{6, 9} || done.Starts[1].Revision != 7_000_000_000 || done.Starts[0].Revision != 2_000_000_006 {
		t.Errorf("%+v", done)
	}
	s.wantClean()
}

func TestRestoreOfAnotherStoreReplacesItWhole(t *testing.T) {
	s := newSystem(t)
	path := s.backup()
	s.flush()
	if _, _, err := store.Init(t.Context(), s.client, s.ring, 2*partitions); err != nil {
		t.Fatal(err)
	}
	s.report("validator-1", nil)
	if _, err := s.tools.Restore(t.Context(), path, RestoreOptions{}); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("another store: %v", err)
	}
	check.Must(s.tools.Restore(t.Context(), path, RestoreOptions{Replace: true}))(t)
	if v := s.wantClean(); v.StoreID != s.codec.StoreID() || v.Totals.Partitions != partitions {
		t.Errorf("%+v", v)
	}
}

func TestRestoreOfADamagedBackupLeavesOutWhatDoesNotVerify(t *testing.T) {
	s := newSystem(t)
	keys := record.KeysOf(1)
	s.client.HSet(t.Context(), keys.Policies, s.app(1, 0), "x")
	s.client.XDel(t.Context(), keys.Audit, "3-0")
	s.client.XDel(t.Context(), keys.Log, "3-0")
	s.client.Del(t.Context(), record.KeysOf(2).Head)
	path := filepath.Join(t.TempDir(), "damaged")
	check.Must(s.tools.Backup(t.Context(), path, true))(t)
	s.flush()
	done := check.Must(s.tools.Restore(t.Context(), path, RestoreOptions{AllowDamaged: true}))(t)
	if len(done.Findings) == 0 {
		t.Error("nothing was found")
	}
	v := check.Must(s.tools.Verify(t.Context()))(t)
	if len(v.Findings) != 1 || !has(v.Findings, keys.Log+" 4", "does not continue revision 2") ||
		v.Totals.Apps != 3*partitions-1 {
		t.Errorf("%+v", v)
	}
	r, _ := s.follow()
	if state(r, s.app(1, 0), "first") != 0 || state(r, s.app(1, 1), "first") != policy.Active ||
		state(r, s.app(2, 0), "second") != policy.Active {
		t.Error("what is left is not served")
	}
}

// TestRestoreWithoutNames: the policies of a validator's snapshot decide again, with its sticky revocations.
func TestRestoreWithoutNames(t *testing.T) {
	s := newSystem(t)
	path := s.backup()
	app := s.app(1, 0)
	running, _ := s.follow()
	s.revoke(app, "second")
	check.Eventually(t, "following", func() error {
		if state(running, app, "second") != policy.Revoked {
			return errors.New("not there yet")
		}
		return nil
	})
	// The store loses the revocation, and the validator keeps it.
	check.Must(s.tools.Restore(t.Context(), path, RestoreOptions{Replace: true}))(t)
	crossed(t, running, 2)
	file := s.replicaFileOf(running)
	if v, kind, err := s.tools.VerifyFile(t.Context(), file); err != nil || kind != snapshot.OfReplica ||
		len(v.Findings) > 0 || v.Totals.Apps != 3*partitions {
		t.Errorf("%+v, %v, %v", v, kind, err)
	}
	s.flush()
	done := check.Must(s.tools.Restore(t.Context(), file, RestoreOptions{WithoutNames: true}))(t)
	if done.Epochs != [2]uint64{3, 3} {
		t.Errorf("%+v", done)
	}
	s.wantClean()
	crossed(t, running, 3)
	fresh, _ := s.follow()
	if state(fresh, app, "first") != policy.Active || state(fresh, app, "second") != policy.Revoked ||
		fresh.Stats().Sticky != 0 {
		t.Errorf("%d, %d", state(fresh, app, "first"), state(fresh, app, "second"))
	}
	if err := s.change(s.app(1, 0), "Add", addToken(s.app(1, 0), "early")); apierr.ReasonOf(err) != apierr.StoreUnhealed {
		t.Errorf("a change before the store is healed: %v", err)
	}
	s.heal()
	d, _, err := s.store.Read(t.Context(), app)
	if err != nil || len(d.Tokens) != 2 || d.Tokens[0].Name != app+"/first" || d.Tokens[0].ID != app+"/first" {
		t.Errorf("%+v, %v", d, err)
	}
	check.Eventually(t, "changing the store", func() error { return s.change(app, "Add", addToken(app, "third")) })
	s.wantClean()
}

// TestRunningAuthoritiesAndToolsDoNotMixUpTheStore: after concurrent restorations, adoptions and changes the
// store verifies.
func TestRunningAuthoritiesAndToolsDoNotMixUpTheStore(t *testing.T) {
	s := newSystem(t)
	path := s.backup()
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				// The change may be refused while the store lacks changes that the authority holds.
				_ = s.change(s.app(n%partitions, w), "Add", addToken(s.app(n%partitions, w), strconv.Itoa(n)))
			}
		})
	}
	for n := range 5 {
		if _, err := s.tools.Restore(t.Context(), path, RestoreOptions{Replace: true}); err != nil {
			t.Errorf("restoration %d: %v", n, err)
		}
		plan := check.Must(s.tools.PlanAdoption(t.Context(), 0))(t)
		if err := s.tools.Adopt(t.Context(), plan); err != nil {
			t.Errorf("adoption %d: %v", n, err)
		}
	}
	cancel()
	writers.Wait()
	s.wantClean()
	if err := s.change(s.app(1, 0), "Add", addToken(s.app(1, 0), "early")); apierr.ReasonOf(err) != apierr.StoreUnhealed {
		t.Errorf("a change before the store is healed: %v", err)
	}
	s.heal()
	check.Eventually(t, "changing the store", func() error {
		return s.change(s.app(0, 0), "Add",
			addToken(s.app(0, 0), "last"))
	})
	s.wantClean()
	if file := check.Must(os.ReadFile(path))(t); !bytes.HasPrefix(file, []byte("CSSNAP")) {
		t.Error("the backup was changed")
	}
}
