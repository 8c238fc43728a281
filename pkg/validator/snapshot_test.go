package validator_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/snapshot"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/pkg/testkit/storetest"
	"github.com/countersign/countersign/pkg/validator"
	"github.com/countersign/countersign/pkg/validator/inside"
)

// snapshotFile returns a path for a snapshot file.
func snapshotFile(t *testing.T) validator.SnapshotFile {
	t.Helper()
	return validator.SnapshotFile{Path: filepath.Join(t.TempDir(), "policies.snapshot"), Interval: time.Second}
}

// run runs a validator over the store's Redis until the returned function is called or the test ends.
func (k *kit) run(t testing.TB, change func(*validator.Config)) (v *validator.Validator, stop func()) {
	t.Helper()
	config := validator.Config{RedisURL: k.server.URL(), Ring: k.store.Ring(), Log: slog.New(slog.DiscardHandler)}
	change(&config)
	v, err := validator.New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- v.Run(ctx); close(done) }()
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	return v, stop
}

// keeping runs a validator with a snapshot file and waits until it is ready.
func (k *kit) keeping(t *testing.T, file validator.SnapshotFile) (v *validator.Validator, stop func()) {
	t.Helper()
	v, stop = k.run(t, func(c *validator.Config) { c.Snapshot = file })
	if err := v.WaitReady(limited(t)); err != nil {
		t.Fatal(err)
	}
	return v, stop
}

// TestB20_ValidatorStartedFromItsSnapshotDecidesWithRedisDown: a validator that starts from its snapshot
// decides while Redis is down, and reports the data's age. A validator without a snapshot is UNAVAILABLE.
func TestB20_ValidatorStartedFromItsSnapshotDecidesWithRedisDown(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.store.CopyTo(k.admin)
	file := snapshotFile(t)
	_, stop := k.keeping(t, file)
	stop()
	stopped := time.Now()
	if info, err := os.Stat(file.Path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	k.server.Stop()

	without, _ := k.run(t, func(*validator.Config) {})
	v, stop := k.keeping(t, file)
	for _, request := range []validator.Request{
		k.ask(), {AppID: k.app, Scope: events, Token: k.revoked}, {AppID: "unknown", Scope: events},
	} {
		answer, err := v.Authorize(t.Context(), request)
		if err != nil || answer.Allow != (request.Token != k.revoked) || answer.DataAge < time.Since(stopped)-time.Second {
			t.Errorf("%+v, %v; stopped %v ago", answer, err, time.Since(stopped))
		}
		_, err = without.Authorize(t.Context(), request)
		mustRefuse(t, err, codes.Unavailable, apierr.NotLoaded)
	}
	if without.Ready() == nil {
		t.Error("the validator without a snapshot: Ready returned nil, want an error")
	}
	stats, wanted := v.Snapshot()
	if !wanted || stats.ReadErrors+stats.WriteErrors > 0 || stats.Time.After(stopped) || time.Since(stats.Time) > time.Minute {
		t.Errorf("%+v, %t", stats, wanted)
	}

	// No data was verified since the last write, so the file is not written again.
	before := check.Must(os.ReadFile(file.Path))(t)
	stop()
	if after := check.Must(os.ReadFile(file.Path))(t); !bytes.Equal(before, after) {
		t.Error("the snapshot file was written again, but no data has changed or was verified")
	}
	k.server.Restart()
	k.store.CopyTo(k.admin)
	made := k.store.Commit(k.app, storetest.SetState("tok_good", policy.Disabled))
	check.Eventually(t, "following the store", func() error {
		answer, err := without.Authorize(t.Context(), k.ask())
		if err == nil && (answer.Reason != policy.TokenDisabled || answer.Revision != made.Cursor.Revision) {
			err = fmt.Errorf("%+v", answer)
		}
		return err
	})
}

// TestValidatorIsReadyWithWhatTheStoreHasSinceItsSnapshot: when Redis answers, a validator becomes ready only
// after it has applied the changes since its snapshot.
func TestValidatorIsReadyWithWhatTheStoreHasSinceItsSnapshot(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.store.CopyTo(k.admin)
	file := snapshotFile(t)
	_, stop := k.keeping(t, file)
	stop()
	made := k.store.Commit(k.app, storetest.SetState("tok_good", policy.Revoked))
	v, _ := k.keeping(t, file)
	if answer, err := v.Authorize(
		t.Context(), k.ask(),
	); err != nil || answer.Reason != policy.TokenRevoked ||
		answer.Revision != made.Cursor.Revision {
		t.Errorf("Authorize: got %+v, error %v", answer, err)
	}
	k.fresh(t, v)
}

// TestB08_OldSnapshotIsNotDecidedFromWhileRedisAnswers: while Redis answers, a validator does not decide
// from its snapshot. The snapshot may lack a revocation that the validator had applied before it was
// killed, and that a receipt has confirmed.
func TestB08_OldSnapshotIsNotDecidedFromWhileRedisAnswers(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.store.CopyTo(k.admin)
	file := snapshotFile(t)
	_, stop := k.keeping(t, file)
	stop()
	k.store.Commit(k.app, storetest.SetState("tok_good", policy.Revoked))
	for range 20 {
		old := check.Must(os.ReadFile(file.Path))(t)
		v, stop := k.run(t, func(c *validator.Config) { c.Snapshot = file })
		for ready, deadline := false, time.Now().Add(30*time.Second); !ready; {
			ready = v.Ready() == nil // before the question: a ready validator must answer
			answer, err := v.Authorize(t.Context(), k.ask())
			if ready && err != nil || err == nil && answer.Reason != policy.TokenRevoked || time.Now().After(deadline) {
				t.Fatalf("ready %t: %+v, %v", ready, answer, err)
			}
		}
		stop()
		if err := os.WriteFile(file.Path, old, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestB20_AppThatTheStoreLostIsUndecided: an app whose policy the store has lost is undecided. It does not
// count as an app without a policy, which would accept even a revoked token.
func TestB20_AppThatTheStoreLostIsUndecided(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.store.CopyTo(k.admin)
	before, app := k.store.Save(), k.store.App(3, 9)
	v := k.ready(t, k.server.URL())
	ask := validator.Request{AppID: app, Token: secret.Mint(), Scope: events}
	if answer, err := v.Authorize(t.Context(), ask); err != nil || answer.Reason != policy.AppNotConfigured {
		t.Fatalf("Authorize: got %+v, error %v", answer, err)
	}
	replace := func() {
		if err := k.admin.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		k.store.CopyTo(k.admin)
	}
	k.store.Commit(
		app, storetest.Add(storetest.Token("tok_lost", ask.Token.Reveal(), events)),
		storetest.SetState("tok_lost", policy.Revoked), storetest.Enforce(events),
	)
	k.store.NewEpoch(3)
	replace()
	check.Eventually(t, "the new app", func() error {
		if answer, err := v.Authorize(t.Context(), ask); err != nil || answer.Reason != policy.TokenRevoked {
			return fmt.Errorf("%+v, %w", answer, err)
		}
		return nil
	})
	k.store.RollBack(before)
	for range 2 {
		k.store.NewEpoch(3)
	}
	replace()
	check.Eventually(t, "crossing", func() error {
		answer, err := v.Authorize(t.Context(), ask)
		if err == nil && answer.Allow {
			t.Fatalf("a revoked token is allowed: %+v", answer)
		}
		if err == nil {
			return fmt.Errorf("%+v", answer)
		}
		mustRefuse(t, err, codes.Unavailable, apierr.PolicyUnverified)
		return nil
	})
}

// TestB08_RevocationSurvivesARestartAndAStoreThatForgotIt: a snapshot with a revocation keeps the validator
// from following a store without it.
func TestB08_RevocationSurvivesARestartAndAStoreThatForgotIt(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.store.CopyTo(k.admin)
	before := k.store.Save()
	file := snapshotFile(t)
	v, stop := k.keeping(t, file)
	made := k.store.Commit(k.app, storetest.SetState("tok_good", policy.Revoked))
	newer := k.ask()
	newer.MinRevision = record.EncodePosition(k.store.Position(made))
	if answer, err := v.Authorize(t.Context(), newer); err != nil || answer.Reason != policy.TokenRevoked {
		t.Fatalf("Authorize: got %+v, error %v", answer, err)
	}
	check.Eventually(t, "confirming it", func() error {
		if at := inside.Replica(v).Confirmed(made.Partition); at != made.Cursor {
			return fmt.Errorf("at %s", at)
		}
		return nil
	})
	stop()

	forget := func(epochs int) {
		k.store.RollBack(before)
		for range epochs {
			k.store.NewEpoch(made.Partition)
		}
		if err := k.admin.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		k.store.CopyTo(k.admin)
	}
	// An older copy of the store is not followed. A new epoch without the revocation is followed, but the
	// revocation stays in force.
	forget(0)
	v, _ = k.keeping(t, file)
	if answer, err := v.Authorize(t.Context(), k.ask()); err != nil || answer.Reason != policy.TokenRevoked || answer.Allow {
		t.Errorf("Authorize: got %+v, error %v", answer, err)
	}
	if n := v.StickyDenials(); n != 0 {
		t.Errorf("StickyDenials = %d, want 0: the validator has not followed the store yet", n)
	}
	forget(1)
	check.Eventually(t, "crossing", func() error {
		if at := inside.Replica(v).Cursors()[made.Partition]; at.Epoch != 2 {
			return fmt.Errorf("at %s", at)
		}
		return nil
	})
	for _, request := range []validator.Request{
		k.ask(), {AppID: k.app, Scope: sessions, Token: k.good}, {AppID: k.app, Scope: events, Token: k.revoked},
	} {
		if answer, err := v.Authorize(
			t.Context(), request,
		); err != nil || answer.Reason != policy.TokenRevoked ||
			answer.Allow == answer.Enforced {
			t.Errorf("Authorize: got %+v, error %v", answer, err)
		}
	}
	if n := v.StickyDenials(); n != 1 {
		t.Errorf(
			"%d denials against the store, want one: one was allowed, and one is of a token that the store has revoked too", n,
		)
	}
}

// TestSnapshotThatCannotBeUsedIsIgnored: an unusable snapshot is counted, and the validator starts from
// Redis.
func TestSnapshotThatCannotBeUsedIsIgnored(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.store.CopyTo(k.admin)
	good := snapshotFile(t)
	_, stop := k.keeping(t, good)
	stop()
	data := check.Must(os.ReadFile(good.Path))(t)
	for name, make := range map[string]func(path string) error{
		"garbage":       func(path string) error { return os.WriteFile(path, []byte("garbage"), 0o600) },
		"empty":         func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"cut":           func(path string) error { return os.WriteFile(path, data[:len(data)-1], 0o600) },
		"extended":      func(path string) error { return os.WriteFile(path, append(bytes.Clone(data), 0), 0o600) },
		"a folder":      func(path string) error { return os.Mkdir(path, 0o700) },
		"another ring":  func(path string) error { return backup(path, keyring.Generate(), k.store.Meta()) },
		"a backup":      func(path string) error { return backup(path, k.store.Ring(), k.store.Meta()) },
		"not readable":  func(path string) error { return os.Symlink(path, path) },
		"not adding up": func(path string) error { return incomplete(path, good.Path, k.store.Ring()) },
	} {
		t.Run(name, func(t *testing.T) {
			file := snapshotFile(t)
			if err := make(file.Path); err != nil {
				t.Fatal(err)
			}
			v, _ := k.keeping(t, file)
			if answer, err := v.Authorize(t.Context(), k.ask()); err != nil || !answer.Allow {
				t.Errorf("Authorize: got %+v, error %v", answer, err)
			}
			if stats, _ := v.Snapshot(); stats.ReadErrors != 1 {
				t.Errorf("Snapshot: got unexpected statistics %+v", stats)
			}
		})
	}
	// At the first start there is no file.
	v, _ := k.keeping(t, snapshotFile(t))
	if stats, _ := v.Snapshot(); stats.ReadErrors != 0 {
		t.Errorf("Snapshot: got unexpected statistics %+v", stats)
	}
}

// backup writes an empty backup.
func backup(path string, ring *keyring.Ring, meta record.Meta) error {
	file, err := snapshot.Create(path, ring, meta, snapshot.Backup)
	for i := 0; i < meta.Partitions && err == nil; i++ {
		err = file.Partition(i, nil)
	}
	if err != nil {
		return err
	}
	return file.Commit()
}

// incomplete copies a snapshot without its apps. The copy has valid signatures, but incomplete contents.
func incomplete(path, from string, ring *keyring.Ring) error {
	source, err := snapshot.Open(from, ring)
	if err != nil {
		return err
	}
	defer source.Close()
	file, err := snapshot.Create(path, ring, source.Meta(), snapshot.OfReplica)
	if err != nil {
		return err
	}
	err = source.Replicas(func(c replica.Contents) error { c.Apps = nil; return file.Replica(c) })
	return errors.Join(err, file.Commit())
}

// TestSnapshotOfAnotherStoreGivesWayToRedis: when Redis has another store than the snapshot, the store in
// Redis replaces the data of the snapshot. No answer mixes data of both.
func TestSnapshotOfAnotherStoreGivesWayToRedis(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.store.CopyTo(k.admin)
	file := snapshotFile(t)
	_, stop := k.keeping(t, file)
	stop()

	other := storetest.NewWith(t, k.store.Ring(), record.Meta{StoreID: "another", Partitions: 4, CreateTime: time.Now()})
	other.Commit(k.app, storetest.Add(storetest.Token("tok_other", k.revoked.Reveal(), events)), storetest.Enforce(events))
	proxy := redistest.NewProxy(t, k.server.Address())
	proxy.Refuse()
	if err := k.admin.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	other.CopyTo(k.admin)
	v, stop := k.run(t, func(c *validator.Config) { c.Snapshot, c.RedisURL = file, proxy.URL() })
	if err := v.WaitReady(limited(t)); err != nil {
		t.Fatal(err)
	}
	if answer, err := v.Authorize(t.Context(), k.ask()); err != nil || answer.TokenID != "tok_good" || !answer.Allow {
		t.Errorf("Authorize: got %+v, error %v", answer, err)
	}
	proxy.Restore()
	check.Eventually(t, "deciding from the other store", func() error {
		good, err := v.Authorize(t.Context(), k.ask())
		revoked, err2 := v.Authorize(t.Context(), validator.Request{AppID: k.app, Scope: events, Token: k.revoked})
		switch {
		case err != nil || err2 != nil:
			t.Fatalf("%v, %v", err, err2)
		case v.Ready() != nil:
			t.Fatal("Ready: got an error after the validator was ready")
		case good.Reason == policy.TokenUnknown && revoked.TokenID == "tok_other" && revoked.Allow:
			return nil
		case good.TokenID != "tok_good" || revoked.TokenID != "tok_revoked" && revoked.TokenID != "tok_other":
			t.Fatalf("%+v, %+v", good, revoked)
		}
		return fmt.Errorf("%+v, %+v", good, revoked)
	})
	if stats, _ := v.Snapshot(); stats.ReadErrors != 1 {
		t.Errorf("Snapshot: got unexpected statistics %+v", stats)
	}
	stop()
	if source := check.Must(snapshot.Open(file.Path, k.store.Ring()))(t); source.Meta().StoreID != "another" {
		t.Errorf("the snapshot file is of store %s, want the store in Redis", source.Meta().StoreID)
	}
}

// TestSnapshotIsWrittenWhileTheValidatorRuns: the file is written at the interval. A failure to write does
// not stop the validator.
func TestSnapshotIsWrittenWhileTheValidatorRuns(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.store.CopyTo(k.admin)
	file := snapshotFile(t)
	began := time.Now()
	v, _ := k.keeping(t, file)
	made := k.store.Commit(k.app, storetest.AddToken("tok_new"))
	check.Eventually(t, "telling when it was written", func() error {
		if stats, kept := v.Snapshot(); !kept || stats.Time.Before(began) || stats.Time.After(time.Now()) {
			return fmt.Errorf("%+v, %t", stats, kept)
		}
		return nil
	})
	check.Eventually(t, "writing the change", func() error {
		source, err := snapshot.Open(file.Path, k.store.Ring())
		if err != nil {
			return err
		}
		defer source.Close()
		found := errors.New("an older one")
		err = source.Replicas(func(c replica.Contents) error {
			if c.Partition == made.Partition && c.Cursor == made.Cursor {
				found = io.EOF
			}
			return nil
		})
		if errors.Is(found, io.EOF) {
			return err
		}
		return found
	})
	if err := os.RemoveAll(filepath.Dir(file.Path)); err != nil {
		t.Fatal(err)
	}
	check.Eventually(t, "counting what fails", func() error {
		if stats, _ := v.Snapshot(); stats.WriteErrors == 0 {
			return fmt.Errorf("Snapshot: got unexpected statistics %+v", stats)
		}
		return nil
	})
	if answer, err := v.Authorize(t.Context(), k.ask()); err != nil || !answer.Allow {
		t.Errorf("Authorize: got %+v, error %v", answer, err)
	}
}
