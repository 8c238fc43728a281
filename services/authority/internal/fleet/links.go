package fleet

import (
	"context"
	"fmt"
	"slices"
	"time"

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
// validators that holders picks, and adds what other authorities have offered. When ctx ends it returns the links that have arrived.
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
	for _, link := range r.offers.of(partition, time.Now()) {
		if !g.have[string(link)] {
			g.links = append(g.links, link)
		}
	}
	return slices.Clone(g.links)
}

const (
	// offerLife is how long the links that another authority has offered are kept after its latest offer. It
	// is longer than the longest pause between two attempts to heal a partition.
	offerLife = 20 * time.Second
	// offerSize is about how many bytes of links one message of an offer has.
	offerSize = 256 << 10
)

// Offer gives links of a partition to the other authorities. An authority can ask only the validators that
// report to it. So the links that a healing needs may be spread over validators of several authorities.
func (r *Registry) Offer(ctx context.Context, partition int, links [][]byte) {
	for len(links) > 0 && ctx.Err() == nil {
		n, size := 0, 0
		for n < len(links) && (n == 0 || size+len(links[n]) <= offerSize) {
			size += len(links[n])
			n++
		}
		if raw, err := r.codec.SealOffer(partition, links[:n]); err == nil {
			_ = r.shared.Tell(ctx, raw) // the next attempt offers them again
		}
		links = links[n:]
	}
}

// offers are the links that authorities have offered, by partition.
type offers map[int]*offer

type offer struct {
	links [][]byte
	have  map[string]bool
	at    time.Time
}

func (all offers) add(partition int, links [][]byte, now time.Time) {
	if len(links) == 0 {
		return
	}
	o := all[partition]
	if o == nil || now.Sub(o.at) > offerLife {
		o = &offer{have: map[string]bool{}}
		all[partition] = o
	}
	o.at = now
	for _, link := range links {
		if len(o.links) < maxGathered && !o.have[string(link)] {
			o.have[string(link)] = true
			o.links = append(o.links, link)
		}
	}
}

func (all offers) of(partition int, now time.Time) [][]byte {
	o := all[partition]
	if o == nil || now.Sub(o.at) > offerLife {
		delete(all, partition)
		return nil
	}
	return o.links
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
