package tools

import (
	"slices"
	"strings"
	"testing"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
)

func TestStatus(t *testing.T) {
	s := newSystem(t)
	s.client.ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lru")
	s.client.ConfigSet(t.Context(), "appendonly", "yes")
	s.client.Del(t.Context(), record.KeysOf(2).Head)
	s.client.Set(t.Context(), record.KeysOf(3).Head, "x", 0)
	head := check.Must(s.codec.OpenHead(1, []byte(s.client.Get(t.Context(), record.KeysOf(1).Head).Val())))(t)
	ahead := record.Cursor{Epoch: 1, Revision: 9, Tag: record.NewTag()}
	s.report("validator-1", map[int]record.Cursor{0: {Epoch: 1, Revision: 1}, 1: head.Cursor})
	s.report("validator-2", map[int]record.Cursor{1: ahead})
	got := check.Must(s.tools.Status(t.Context()))(t)
	if got.StoreID != s.codec.StoreID() || got.Partitions != partitions || got.Epochs != [2]uint64{1, 1} || got.Apps != 6 ||
		got.Revisions != 12 {
		t.Errorf("%+v", got)
	}
	if len(got.Heads) != 2 || !has(got.Heads, record.KeysOf(2).Head, "is missing") ||
		!has(got.Heads, record.KeysOf(3).Head, "does not verify") {
		t.Errorf("heads %v", got.Heads)
	}
	if len(got.Servers) != 1 || got.Servers[0].Role != "master" || !got.Servers[0].AppendOnly ||
		got.Servers[0].AppendFsync != "everysec" || got.Servers[0].UsedMemory == 0 {
		t.Errorf("servers %+v", got.Servers)
	}
	if len(got.Validators) != 2 || got.Validators[0].Behind != 1 || got.Validators[0].Ahead != 0 ||
		got.Validators[1].Ahead != 1 {
		t.Errorf("validators %+v", got.Validators)
	}
	for _, want := range []string{
		"maxmemory-policy is allkeys-lru", "appendfsync is everysec", "there is no replica",
		"validator validator-2 knows of changes",
		"cs:{cs02}:head: is missing",
	} {
		if !slices.ContainsFunc(got.Warnings, func(w string) bool { return strings.Contains(w, want) }) {
			t.Errorf("no warning that %s: %q", want, got.Warnings)
		}
	}
}

// TestStatusWithoutTheRightToAsk: a missing right of the account is a warning and no error.
func TestStatusWithoutTheRightToAsk(t *testing.T) {
	s := newSystem(t)
	if err := s.client.Do(t.Context(), "ACL", "SETUSER", "limited", "reset", "on", ">limited", "+@all", "-info", "-config",
		"~cs:*").Err(); err != nil {
		t.Fatal(err)
	}
	got := check.Must(New(clientOf(t, redistest.URL(s.redis.Address(), "limited", "limited")), s.ring).Status(t.Context()))(t)
	if got.Apps != 12 || len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "could not be read") {
		t.Errorf("%+v", got)
	}
}
