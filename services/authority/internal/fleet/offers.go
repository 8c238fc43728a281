package fleet

import (
	"context"
	"time"

	"github.com/countersign/countersign/pkg/record"
)

const (
	// offerLife is how long an offered link is kept after it was offered last. It is longer than the longest
	// pause between two attempts to heal a partition.
	offerLife = 20 * time.Second
	// offerSize is about how many bytes of links one message of an offer has.
	offerSize = 256 << 10
	// offerTimeout bounds one offer.
	offerTimeout = 2 * time.Second
	// maxOffered bounds the bytes of links that are kept of one authority and partition.
	maxOffered = 8 << 20
)

// Offer gives links of a partition to the other authorities. An authority can ask only the validators that
// report to it. So the links that a healing needs may be spread over validators of several authorities. A
// caller offers only what it has gathered itself. Otherwise links would circulate that nobody holds any more.
func (r *Registry) Offer(ctx context.Context, partition int, links [][]byte) {
	ctx, cancel := context.WithTimeout(ctx, offerTimeout)
	defer cancel()
	for len(links) > 0 {
		n, size := 0, 0
		for n < len(links) && (n == 0 || size+len(links[n]) <= offerSize) {
			size += len(links[n])
			n++
		}
		raw, err := r.codec.SealOffer(r.sender, partition, links[:n])
		if err != nil || r.shared.Tell(ctx, raw) != nil {
			return // the next attempt offers them again
		}
		links = links[n:]
	}
}

// Offered returns the links of a partition that other authorities have offered lately.
func (r *Registry) Offered(partition int) (links [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dropOffers(time.Now())
	for from, o := range r.offers {
		if from.partition != partition {
			continue
		}
		for link := range o.links {
			links = append(links, []byte(link))
		}
	}
	return links
}

// offerer is an authority that offers links of a partition.
type offerer struct {
	sender    string
	partition int
}

// offer has the links of one offerer, with the time of the latest message that offered each. size is the sum
// of their bytes.
type offer struct {
	links map[string]time.Time
	size  int
}

// takeOffer keeps the links of an offer that verify. It ignores this authority's own offers.
func (r *Registry) takeOffer(news *record.News, now time.Time) {
	if len(news.Offered) == 0 || news.Sender == r.sender {
		return
	}
	verified := news.Offered[:0]
	for _, link := range news.Offered {
		if _, err := r.codec.OpenUnlabelled(news.Partition, link); err == nil {
			verified = append(verified, link)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	from := offerer{news.Sender, news.Partition}
	o := r.offers[from]
	if o == nil {
		o = &offer{links: map[string]time.Time{}}
		r.offers[from] = o
	}
	for _, link := range verified {
		if _, has := o.links[string(link)]; !has {
			if o.size+len(link) > maxOffered {
				continue
			}
			o.size += len(link)
		}
		o.links[string(link)] = now
	}
}

// dropOffers drops the links that were not offered again. The caller holds the mutex.
func (r *Registry) dropOffers(now time.Time) {
	for from, o := range r.offers {
		for link, at := range o.links {
			if now.Sub(at) > offerLife {
				o.size -= len(link)
				delete(o.links, link)
			}
		}
		if len(o.links) == 0 {
			delete(r.offers, from)
		}
	}
}
