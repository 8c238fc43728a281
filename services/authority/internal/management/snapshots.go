package management

import (
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/apierr"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

const (
	// snapshotLife is how long a list is kept for its next pages.
	snapshotLife = 10 * time.Minute
	// maxSnapshots is how many lists are kept for one identity. The oldest ones go first.
	maxSnapshots = 8
	// maxSnapshotBytes bounds the memory of the kept lists of all identities.
	maxSnapshotBytes = 256 << 20
)

var errListGone = apierr.Invalid("page_token", "the list is no longer kept, or another authority made it: begin again "+
	"without a page token")

// snapshot is the list of all apps' readiness at one moment. It is immutable, and callers share it.
type snapshot struct {
	id string
	// apps are the encoded reports in order, without what all of them share.
	apps        [][]byte
	missing     []string
	unreachable []string
	bytes       int
}

// report returns the report at an index.
func (l *snapshot) report(at int) (*countersignv1.Readiness, error) {
	r := &countersignv1.Readiness{}
	if err := proto.Unmarshal(l.apps[at], r); err != nil {
		return nil, err
	}
	r.Missing = slices.Concat(l.missing, r.GetMissing())
	return r, nil
}

// snapshots keeps lists for the calls that ask for their next pages. It is safe for concurrent use.
type snapshots struct {
	mu  sync.Mutex
	all []kept // the oldest first
}

// kept is a list that is kept for one identity. Several identities may share the list.
type kept struct {
	*snapshot
	identity string
	since    time.Time
}

// keep keeps a list for an identity.
func (s *snapshots) keep(identity string, l *snapshot, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = slices.DeleteFunc(s.all, func(k kept) bool { return k.identity == identity && k.snapshot == l })
	s.all = append(s.all, kept{l, identity, now})
	s.dropOld(now)
	s.dropMany(identity)
	for s.bytes() > maxSnapshotBytes && len(s.all) > 1 {
		at := s.greediest()
		s.all = slices.Delete(s.all, at, at+1)
	}
}

// find returns a list by its id; nil when it is not kept. The list may be kept for another identity: every
// identity sees the same lists.
func (s *snapshots) find(id string, now time.Time) *snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropOld(now)
	for _, k := range s.all {
		if k.id == id {
			return k.snapshot
		}
	}
	return nil
}

// dropOld drops the lists that are too old. The caller holds the mutex.
func (s *snapshots) dropOld(now time.Time) {
	s.all = slices.DeleteFunc(s.all, func(k kept) bool { return now.Sub(k.since) > snapshotLife })
}

// dropMany drops the oldest lists of an identity that has too many. The caller holds the mutex.
func (s *snapshots) dropMany(identity string) {
	own := 0
	for i, k := range slices.Backward(s.all) {
		if k.identity != identity {
			continue
		}
		if own++; own > maxSnapshots {
			s.all = slices.Delete(s.all, i, i+1)
		}
	}
}

// bytes returns the memory of all kept lists. The caller holds the mutex.
func (s *snapshots) bytes() (bytes int) {
	for l := range s.holders() {
		bytes += l.bytes
	}
	return bytes
}

// holders returns for how many identities each list is kept. The caller holds the mutex.
func (s *snapshots) holders() map[*snapshot]int {
	holders := map[*snapshot]int{}
	for _, k := range s.all {
		holders[k.snapshot]++
	}
	return holders
}

// greediest returns the index of the oldest list of the identity whose lists take the most memory; a list
// that several identities share counts in parts. So an identity that keeps many lists loses its own ones, not
// those of others. The newest list of all is left out, because its first page is being answered. The caller
// holds the mutex.
func (s *snapshots) greediest() (at int) {
	holders, bytes := s.holders(), map[string]int{}
	for _, k := range s.all {
		bytes[k.identity] += k.snapshot.bytes / holders[k.snapshot]
	}
	for i, k := range s.all[:len(s.all)-1] {
		if bytes[k.identity] > bytes[s.all[at].identity] {
			at = i
		}
	}
	return at
}
