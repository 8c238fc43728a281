package management

import (
	"crypto/rand"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/apierr"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

const (
	// snapshotLife is how long a list is kept for its next pages.
	snapshotLife = 10 * time.Minute
	// maxSnapshots and maxSnapshotBytes bound the kept lists. The oldest ones go first.
	maxSnapshots     = 8
	maxSnapshotBytes = 256 << 20
)

var errListGone = apierr.Invalid("page_token", "the list is no longer kept, or another authority made it: begin again "+
	"without a page token")

// snapshot is the list of all apps' readiness at one moment.
type snapshot struct {
	id   string
	made time.Time
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
	r.Missing = l.missing
	return r, nil
}

// snapshots keeps lists for the calls that ask for their next pages. It is safe for concurrent use.
type snapshots struct {
	mu  sync.Mutex
	all []*snapshot // the oldest first
}

// keep keeps a list and returns its id.
func (s *snapshots) keep(l *snapshot, now time.Time) (id string) {
	l.id, l.made = rand.Text(), now
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, l)
	s.drop(now)
	return l.id
}

// find returns a list by its id; nil when it is not kept.
func (s *snapshots) find(id string, now time.Time) *snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(now)
	for _, l := range s.all {
		if l.id == id {
			return l
		}
	}
	return nil
}

// drop drops the lists that are too old or too many. The newest one always stays. The caller holds the mutex.
func (s *snapshots) drop(now time.Time) {
	bytes := 0
	for _, l := range s.all {
		bytes += l.bytes
	}
	for len(s.all) > 0 {
		oldest := s.all[0]
		old := now.Sub(oldest.made) > snapshotLife
		many := len(s.all) > 1 && (len(s.all) > maxSnapshots || bytes > maxSnapshotBytes)
		if !old && !many {
			return
		}
		bytes -= oldest.bytes
		s.all[0] = nil
		s.all = s.all[1:]
	}
}
