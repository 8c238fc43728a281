// Package model runs authorities and validators against a simulated Redis and network, in fake time
// (testing/synctest): a master with a replica that lags behind it, failovers that lose what the replica
// does not have, masters that were deposed and do not know, lost requests, lost replies and lost hints. One
// seed makes one history.
package model

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/services/store"
)

// contents is the data of one partition. Slices are only appended to, so copies share them.
type contents struct {
	head      []byte
	documents map[string][]byte
	log       []record.RawEntry
	audit     []store.AuditRow
}

// data is the content of a Redis.
type data struct {
	meta       []byte
	partitions []contents
	results    map[string][]byte
}

func (d data) clone() data {
	c := data{meta: d.meta, partitions: slices.Clone(d.partitions), results: maps.Clone(d.results)}
	for i := range c.partitions {
		p := &c.partitions[i]
		p.documents, p.log, p.audit = maps.Clone(p.documents), slices.Clip(p.log), slices.Clip(p.audit)
	}
	return c
}

// version is the content of a Redis replica from a time on.
type version struct {
	at   time.Time
	data data
}

// server is one master. A deposed master keeps its data.
type server struct {
	data data
	// versions has the future content of its replica, oldest first.
	versions []version
	// severed is the time from which on no write reaches the replica; zero for never.
	severed  time.Time
	watchers map[chan published]bool
}

type published struct {
	partition int
	raw       []byte
}

// Redis is a simulated Redis: the master that clients should use, and the deposed masters.
type Redis struct {
	mu sync.Mutex
	// lag returns how long a write takes to reach the replica.
	lag    func() time.Duration
	master *server
	// wrote is called after each write, with the mutex held.
	wrote func(partition int, head []byte)
	// trimmed has the entries that were trimmed from a log. A failover may bring them back.
	trimmed map[string]bool
}

// NewRedis returns one that holds a new store of some partitions.
func NewRedis(meta []byte, heads [][]byte, lag func() time.Duration) *Redis {
	d := data{meta: meta, results: map[string][]byte{}}
	for _, head := range heads {
		d.partitions = append(d.partitions, contents{head: head, documents: map[string][]byte{}})
	}
	return &Redis{lag: lag, master: newServer(d), trimmed: map[string]bool{}}
}

func newServer(d data) *server {
	return &server{data: d, versions: []version{{data: d.clone()}}, watchers: map[chan published]bool{}}
}

// Failover promotes the replica. Writes that it lacks are lost. A client that is connected to the old master
// may go on with it.
func (r *Redis) Failover() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.master.sever()
	r.master = newServer(r.master.replicated())
}

// Sever keeps later writes from the replica, until a failover.
func (r *Redis) Sever() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.master.sever()
}

func (s *server) sever() {
	if s.severed.IsZero() {
		s.severed = time.Now()
		s.versions = slices.DeleteFunc(s.versions, func(v version) bool { return v.at.After(s.severed) })
	}
}

// Wipe empties one partition, or only the meta for a partition that does not exist.
func (r *Redis) Wipe(partition int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if partition < len(r.master.data.partitions) {
		r.master.data.partitions[partition] = contents{documents: map[string][]byte{}}
	}
	r.master.data.meta = nil
	r.master.replicate(r.lag())
}

// Save returns the whole content of the master, for Restore.
func (r *Redis) Save() any {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.master.data.clone()
}

// Restore replaces the content of the master by what Save has returned.
func (r *Redis) Restore(saved any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.master = newServer(saved.(data).clone())
}

// Replace replaces a partition of the master by a saved one, as an operator's restore does, in one write.
// begin gets the present head and the saved one, and returns the head and the log entry that begin the new
// epoch.
func (r *Redis) Replace(partition int, saved any, begin func(now, saved []byte) (head []byte, start record.RawEntry)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := saved.(data).clone()
	next, p := was.partitions[partition], &r.master.data.partitions[partition]
	head, start := begin(p.head, next.head)
	next.head, next.log = head, append(next.log, start)
	*p, r.master.data.results = next, map[string][]byte{}
	r.master.replicate(r.lag())
	r.wrote(partition, head)
}

// Trim shortens a partition's log, but not past the start of the latest epoch. A real log has 20,000 entries,
// so it loses that start only long after every process has crossed to the epoch.
func (r *Redis) Trim(partition, keep int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := &r.master.data.partitions[partition]
	from, latest := max(len(p.log)-keep, 0), len(p.log)
	for i, entry := range p.log {
		if entry.EpochStart {
			latest = i
		}
	}
	from = min(from, latest)
	for _, entry := range p.log[:from] {
		r.trimmed[string(entry.Data)] = true
	}
	p.log = p.log[from:]
}

// replicated returns the present content of the replica.
func (s *server) replicated() data {
	now := time.Now()
	has := s.versions[0].data
	for _, v := range s.versions {
		if v.at.After(now) {
			break
		}
		has = v.data
	}
	return has.clone()
}

func (s *server) replicate(lag time.Duration) time.Time {
	at := time.Now().Add(lag)
	if last := s.versions[len(s.versions)-1].at; at.Before(last) {
		at = last // in order
	}
	if !s.severed.IsZero() {
		return time.Time{}
	}
	s.versions = append(s.versions, version{at, s.data.clone()})
	if len(s.versions) > 200 {
		s.versions = slices.Clone(s.versions[100:])
	}
	return at
}

var (
	_ store.Redis    = (*Client)(nil)
	_ replica.Source = (*Client)(nil)
)

// ioTimeout is how long a client waits for an answer.
const ioTimeout = 2 * time.Second

var errTimeout = errors.New("model: no answer")
