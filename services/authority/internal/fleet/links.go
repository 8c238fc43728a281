package fleet

import (
	"context"
	"fmt"
	"slices"

	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// maxGathered bounds the links that one request keeps of one validator. A validator holds fewer.
const maxGathered = 4096

// gather is one request to validators for the links of a partition.
type gather struct {
	partition int
	// asked has the streams whose answer is not complete. The value is the number of links that the stream
	// has sent.
	asked map[*stream]int
	// links are the links that have arrived, each once. have has the same links as a set.
	links [][]byte
	have  map[string]bool
	// done is closed when every answer is complete.
	done chan struct{}
}

// ended records that a validator will send no more links. The caller holds the mutex.
func (g *gather) ended(s *stream) {
	if _, was := g.asked[s]; !was {
		return
	}
	delete(g.asked, s)
	if len(g.asked) == 0 {
		close(g.done)
	}
}

// Links returns the signed links of a partition that validators hold, each once and unverified. It asks the
// validators that holders picks. When ctx ends it returns the links that have arrived.
func (r *Registry) Links(ctx context.Context, partition int) [][]byte {
	g := &gather{partition: partition, asked: map[*stream]int{}, have: map[string]bool{}, done: make(chan struct{})}
	r.mu.Lock()
	for _, s := range r.holders(partition) {
		select {
		case s.wants <- partition:
			g.asked[s] = 0
		default: // its queue of requests is full
		}
	}
	waiting := len(g.asked) > 0
	if waiting {
		r.gathers[g] = struct{}{}
	}
	r.mu.Unlock()
	if waiting {
		select {
		case <-g.done:
		case <-ctx.Done():
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.gathers, g)
	return slices.Clone(g.links)
}

// holders returns the streams to ask for a partition's links. Validators with the same cursor and the same
// orphans form a group. holders picks one validator of each group: the one whose links begin earliest, since
// it also holds the links of the others. Validators that do not report where their links begin form separate
// groups. The caller holds the mutex.
func (r *Registry) holders(partition int) []*stream {
	type group struct {
		at      record.Cursor
		orphans string
		tells   bool
	}
	type holder struct {
		stream *stream
		begins uint64
	}
	furthest := map[group]holder{}
	for _, m := range r.members {
		at, has := m.Cursors[partition]
		if m.stream == nil || m.Gone || !has {
			continue
		}
		begins, tells := m.begins[partition]
		own := group{at, fmt.Sprint(m.orphans[partition]), tells}
		if known, taken := furthest[own]; !taken || begins < known.begins {
			furthest[own] = holder{m.stream, begins}
		}
	}
	all := make([]*stream, 0, len(furthest))
	for _, h := range furthest {
		all = append(all, h.stream)
	}
	return all
}

// gathered adds a batch of a validator's links to the requests that wait for this validator.
func (r *Registry) gathered(s *stream, batch *countersignv1.LinkBatch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for g := range r.gathers {
		count, asked := g.asked[s]
		if !asked || g.partition != int(batch.GetPartition()) {
			continue
		}
		for _, link := range batch.GetLinks() {
			if count++; count <= maxGathered && !g.have[string(link)] {
				g.have[string(link)] = true
				g.links = append(g.links, link)
			}
		}
		g.asked[s] = count
		if batch.GetLast() {
			g.ended(s)
		}
	}
}
