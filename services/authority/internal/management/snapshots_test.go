package management

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// idsOf returns the identity and the id of each kept list, the oldest first.
func idsOf(s *snapshots) (ids []string) {
	for _, k := range s.all {
		ids = append(ids, k.identity+" "+k.id)
	}
	return ids
}

func sized(id string, bytes int) *snapshot { return &snapshot{id: id, bytes: bytes} }

// TestSnapshotsMemory: the identity whose lists take the most memory loses its oldest ones. A list that
// identities share counts once.
func TestSnapshotsMemory(t *testing.T) {
	const tenth = maxSnapshotBytes / 10
	var s snapshots
	now := time.Now()
	shared := sized("shared", 4*tenth)
	for n := range 10 {
		s.keep(fmt.Sprint("console-", n), shared, now)
	}
	for n := range 3 {
		s.keep("small", sized(fmt.Sprint(n), tenth), now)
	}
	before := idsOf(&s)
	if len(before) != 13 {
		t.Fatalf("there was room, but kept are %q", before)
	}
	for n := range 5 {
		s.keep("greedy", sized(fmt.Sprint(n), 2*tenth), now)
		if s.bytes() > maxSnapshotBytes {
			t.Errorf("%d bytes are kept", s.bytes())
		}
		if s.find(fmt.Sprint("greedy ", n), now) != nil {
			t.Error("ids are mixed up")
		}
	}
	if got, want := idsOf(&s), append(slices.Clone(before), "greedy 4"); !slices.Equal(got, want) {
		t.Errorf("kept are %q, want %q", got, want)
	}
	s.keep("huge", sized("huge", 2*maxSnapshotBytes), now)
	if got := idsOf(&s); !slices.Equal(got, []string{"huge huge"}) {
		t.Errorf("kept are %q, want the newest list whatever its size", got)
	}
}

// TestSnapshotsEnd: a list ends 10 minutes after its identity asked for it last.
func TestSnapshotsEnd(t *testing.T) {
	var s snapshots
	now, list := time.Now(), sized("list", 1)
	s.keep("a", list, now)
	s.keep("b", list, now.Add(time.Minute))
	s.keep("a", list, now.Add(2*time.Minute))
	if got := idsOf(&s); !slices.Equal(got, []string{"b list", "a list"}) {
		t.Errorf("kept are %q", got)
	}
	if s.find("list", now.Add(2*time.Minute+snapshotLife)) != list {
		t.Error("the list has ended early")
	}
	if s.find("list", now.Add(2*time.Minute+snapshotLife+1)) != nil || len(s.all) != 0 {
		t.Error("the list has not ended")
	}
}
