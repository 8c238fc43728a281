//go:build campaign

package faults

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/testkit/check"
)

// TestCampaign inflicts faults on each topology, with each write quorum, in turn, as the flags say. It needs
// the machine for itself, so `make faults` runs it and `make test` does not.
func TestCampaign(t *testing.T) {
	if given.seed == 0 {
		given.seed = rand.Uint64()
	}
	names, quorums := strings.Split(given.topologies, ","), strings.Split(given.quorums, ",")
	var runs []*summary
	for _, name := range names {
		start := kinds[name]
		if start == nil {
			t.Fatalf("topology %q is unknown; want single, sentinel, cluster or rdb", name)
		}
		for _, quorum := range quorums {
			t.Run(name+" "+quorum, func(t *testing.T) {
				options := given
				var err error
				options.quorum, err = strconv.Atoi(quorum)
				check.NoError(t, err)
				options.length /= time.Duration(len(names) * len(quorums))
				t.Logf("seed %d, %s", options.seed, options.length)
				c := newCampaign(t, options, start(t))
				c.earlier = runs
				runs = append(runs, c.run())
			})
		}
	}
	if given.recorded {
		for _, what := range unreached(given, runs) {
			t.Errorf("never reached: %s", what)
		}
	}
}
