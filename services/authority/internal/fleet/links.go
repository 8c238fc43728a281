package fleet

import (
	"context"
	"fmt"
	"slices"

	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// maxGathered bounds what is kept of one validator's answer: more links than any holds.
const maxGathered = 4096

// gather is one question for the links of a partition.
type gather struct {
	partition int
	// asked are those who have not answered in full, and how many links they have sent.
	asked map[*stream]int
	links [][]byte
	have  map[string]bool
	done  chan struct{}
}

// ended notes that nothing more comes of a validator. The caller holds the mutex.
func (g *gather) ended(s *stream) {
	if _, was := g.asked[s]; !was {
		return
	}
	delete(g.asked, s)
	if len(g.asked) == 0 {
		close(g.done)
	}
}

// Links returns the signed links of a partition that validators hold, each once: of those that report here,
// one for each place where one is, and all that hold what the store does not have. It returns what has come
// when ctx ends. Nothing of it is verified.
func (r *Registry) Links(ctx context.Context, partition int) [][]byte {
	g := &gather{partition: partition, asked: map[*stream]int{}, have: map[string]bool{}, done: make(chan struct{})}
	r.mu.Lock()
	for _, s := range r.holders(partition) {
		select {
		case s.wants <- partition:
			g.asked[s] = 0
		default: // it has more questions than it answers
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

// holders returns whom to ask for a partition's links: of those at one place the one whose links go back
// furthest, since it holds what the others hold. One that does not tell how far they go is asked beside it.
// The caller holds the mutex.
func (r *Registry) holders(partition int) []*stream {
	type place struct {
		at      record.Cursor
		orphans string
		tells   bool
	}
	type holder struct {
		stream *stream
		begins uint64
	}
	furthest := map[place]holder{}
	for _, m := range r.members {
		at, has := m.Cursors[partition]
		if m.stream == nil || m.Gone || !has {
			continue
		}
		begins, tells := m.begins[partition]
		here := place{at, fmt.Sprint(m.orphans[partition]), tells}
		if known, taken := furthest[here]; !taken || begins < known.begins {
			furthest[here] = holder{m.stream, begins}
		}
	}
	all := make([]*stream, 0, len(furthest))
	for _, h := range furthest {
		all = append(all, h.stream)
	}
	return all
}

// gathered takes in a portion of a validator's links.
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
