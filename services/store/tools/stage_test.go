package tools

import (
	"strings"
	"testing"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
)

// TestSwapNeedsItsRights: Redis checks a right only when a script runs the command, so a swap checks all
// rights before its first write. Half a swap would leave a partition without documents.
func TestSwapNeedsItsRights(t *testing.T) {
	s := newSystem(t)
	for _, lacking := range []string{"set", "unlink", "exists", "rename"} {
		t.Run(lacking, func(t *testing.T) {
			if err := s.client.Do(t.Context(), "ACL", "SETUSER", "limited", "reset", "on", ">limited", "+@all", "~cs:*",
				"-"+lacking).Err(); err != nil {
				t.Fatal(err)
			}
			aside := newStage(t.Context(), clientOf(t, redistest.URL(s.redis.Address(), "limited", "limited")), 1, "restore-01234567")
			if err := aside.document("app", []byte("x")); err != nil {
				t.Fatal(err)
			}
			if err := aside.flush(); err != nil {
				t.Fatal(err)
			}
			expected := check.Must(s.client.Get(t.Context(), record.KeysOf(1).Head).Bytes())(t)
			if err := aside.swap(headKey{kind: "string", raw: expected}, []byte("another head")); err == nil ||
				!strings.Contains(err.Error(), "NO_PERMISSION") {
				t.Errorf("the swap: %v", err)
			}
			s.client.Del(t.Context(), aside.aside[0])
			s.wantClean()
		})
	}
}
