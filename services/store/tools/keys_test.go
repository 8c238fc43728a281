package tools

import (
	"path/filepath"
	"testing"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/storetest"
	"github.com/countersign/countersign/services/store"
)

// become makes everything that starts from now on use another ring.
func (s *system) become(ring *keyring.Ring) {
	s.t.Helper()
	meta := check.Must(s.client.Meta(s.t.Context(), ring))(s.t)
	s.ring, s.codec, s.tools = ring, record.NewCodec(ring, meta), New(s.client, ring)
	r, _ := s.follow()
	s.store = store.New(store.Over(s.client, partitions, store.Options{}), r, store.Options{}, quiet)
}

// TestStoreUnderASuccessorRing: another key is current and the old one is kept. The store can be changed,
// verified, backed up, restored and adopted as before, and files signed with the old key can be used.
func TestStoreUnderASuccessorRing(t *testing.T) {
	s := newSystem(t)
	app := s.app(1, 0)
	first := s.ring
	r, _ := s.follow()
	backup, snapshot := s.backup(), s.replicaFileOf(r)
	s.report("validator-1", map[int]record.Cursor{1: r.Cursors()[1]})

	s.become(storetest.Successor(t, first))
	s.wantClean()
	s.add(app, "third")
	s.revoke(app, "first")
	s.add(s.app(3, 9), "first")
	if v := s.wantClean(); v.Totals.Apps != 3*partitions+1 {
		t.Errorf("%+v", v.Totals)
	}
	keys := record.KeysOf(1)
	only := check.Must(keyring.Parse(storetest.RingFile(t, s.ring, s.ring.Current())))(t)
	document := check.Must(s.client.HGet(t.Context(), keys.Policies, app).Bytes())(t)
	if _, err := record.NewCodec(only, s.codec.Meta()).OpenDocument(app, document); err != nil {
		t.Errorf("the new key has not signed the document: %v", err)
	}
	if status := check.Must(s.tools.Status(t.Context()))(t); len(status.Validators) != 1 || len(status.Heads) != 0 {
		t.Errorf("%+v", status)
	}
	again, _ := s.follow()
	if state(again, app, "first") != policy.Revoked || state(again, app, "third") != policy.Active {
		t.Error("a replica that is started now has other policies")
	}

	for _, path := range []string{backup, snapshot, s.backup(), s.replicaFileOf(again)} {
		if v, _, err := s.tools.VerifyFile(t.Context(), path); err != nil || len(v.Findings) != 0 {
			t.Errorf("%s: %+v, %v", filepath.Base(path), v, err)
		}
		check.Must(s.tools.Restore(t.Context(), path, RestoreOptions{Replace: true, WithoutNames: true}))(t)
		s.wantClean()
	}
	plan := check.Must(s.tools.PlanAdoption(t.Context(), 0))(t)
	if err := s.tools.Adopt(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	s.become(s.ring)
	s.heal()
	s.add(app, "fourth")
	s.wantClean()
	if found, _ := s.follow(); state(found, app, "first") != policy.Revoked || state(found, app, "fourth") != policy.Active {
		t.Error("a replica that is started at the end has other policies")
	}
}
