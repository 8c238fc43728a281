package store_test

import (
	"bufio"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// TestTheLogIsWrittenFirst: commits and starts of epochs write the log first, since Redis does not roll
// scripts back and refuses the first write when it is out of memory. They write the head last, so that it
// never names missing data.
func TestTheLogIsWrittenFirst(t *testing.T) {
	s := newSystem(t)
	st := s.open(s.redis.URL())
	writes := watchScripts(t, s.redis)
	const app = "app"
	if _, err := st.Update(t.Context(), call(app, "add", add("one"))); err != nil {
		t.Fatal(err)
	}
	commit := writes("publish")
	keys := s.keysOf(app)
	if want := []string{
		"xadd " + keys.Log, "xadd " + keys.Audit, "hset " + keys.Policies, "set " + keys.Head,
		"publish " + keys.Hint,
	}; !slices.Equal(commit, want) {
		t.Errorf("a commit writes %q, want %q", commit, want)
	}
	if _, err := st.Adopt(t.Context(), s.codec.PartitionOf(app), []record.Cursor{{Epoch: 3, Revision: 9}},
		countersignv1.EpochCause_EPOCH_CAUSE_ADOPTED); err != nil {
		t.Fatal(err)
	}
	begin := writes("set " + keys.Head)
	if want := []string{"xadd " + keys.Log, "xadd " + keys.Audit, "set " + keys.Head}; !slices.Equal(begin, want) {
		t.Errorf("the beginning of an epoch writes %q, want %q", begin, want)
	}
}

// watchScripts returns a function. Each call of it returns the writing commands of scripts, with keys and in
// order, since the call before, up to a last command.
func watchScripts(t *testing.T, server *redistest.Server) func(last string) []string {
	t.Helper()
	connection, err := net.Dial("tcp", server.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	_ = connection.SetDeadline(time.Now().Add(patience))
	if _, err := connection.Write([]byte("MONITOR\r\n")); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(connection)
	lines.Buffer(nil, 1<<20)
	lines.Scan() // OK
	return func(last string) (writes []string) {
		t.Helper()
		for lines.Scan() {
			_, command, fromScript := strings.Cut(lines.Text(), " lua] ")
			words := strings.Fields(strings.ReplaceAll(command, `"`, ""))
			if !fromScript || len(words) < 2 {
				continue
			}
			name := strings.ToLower(words[0])
			if !slices.Contains([]string{"xadd", "hset", "set", "publish"}, name) {
				continue
			}
			if writes = append(writes, name+" "+words[1]); strings.HasPrefix(name+" "+words[1], last) {
				return writes
			}
		}
		t.Fatalf("no script has written %q, only %q: %v", last, writes, lines.Err())
		return nil
	}
}
