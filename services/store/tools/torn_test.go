package tools

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
)

// TestB08_TornAppendOnlyFile: Redis is killed, and its append-only file is cut after each command of the
// latest change, a revocation. With the transaction's MULTI in the file Redis drops the whole change, and the
// store is consistent. Without it, as in a file that was edited, Redis replays half of the change:
// verification finds this, and the repair completes the change.
func TestB08_TornAppendOnlyFile(t *testing.T) {
	s := &system{t: t, ring: keyring.Generate()}
	s.redis = redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always", "--aof-load-truncated", "yes")
	s.fill(s.redis.URL(), s.redis.URL())
	app := s.app(1, 1)
	s.revoke(app, "first")
	s.redis.Stop()
	files, err := filepath.Glob(filepath.Join(s.redis.Dir(), "appendonlydir", "*.incr.aof"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	whole, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	multi := []byte("*1\r\n$5\r\nMULTI\r\n")
	begin := bytes.LastIndex(whole, multi)
	if begin < 0 {
		t.Fatal("the change is no transaction")
	}
	var cuts []int
	for _, command := range []string{"XADD", "XADD", "HSET", "SET", "SET", "EXEC"} {
		after := begin
		if len(cuts) > 0 {
			after = cuts[len(cuts)-1] + len("*5\r\n$4\r\n")
		}
		at := bytes.Index(whole[after:], fmt.Appendf(nil, "\r\n$%d\r\n%s\r\n", len(command), command))
		if at < 0 {
			t.Fatalf("there is no %s", command)
		}
		cuts = append(cuts, after+bytes.LastIndexByte(whole[after:after+at+1], '*'))
	}
	for i, cut := range cuts {
		for _, torn := range []bool{true, false} {
			t.Run(fmt.Sprintf("%d commands, MULTI %t", i, torn), func(t *testing.T) {
				s.t = t
				file := append([]byte{}, whole[:cut]...)
				if !torn {
					file = append(append([]byte{}, whole[:begin]...), whole[begin+len(multi):cut]...)
				}
				if err := os.WriteFile(files[0], file, 0o600); err != nil {
					t.Fatal(err)
				}
				s.redis.Restart()
				defer s.redis.Stop()
				v := check.Must(s.tools.Verify(t.Context()))(t)
				half := !torn && i > 0 && i < 5
				if half != (len(v.Findings) > 0) {
					t.Fatalf("found %v", v.Findings)
				}
				if plan := s.repair(); half != (len(plan.Partitions) == 1) {
					t.Errorf("%+v", plan.Partitions)
				}
				s.wantClean()
				want := policy.Active
				if !torn && i > 0 {
					want = policy.Revoked
				}
				if got := s.stored(app, "first"); got != want {
					t.Errorf("the token is %d, want %d", got, want)
				}
			})
		}
	}
	s.t = t
	s.redis.Restart()
}
