package healing

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/services/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var began time.Time

// TestHeals: a loss that this authority sees, or that a validator gives notice of, is healed at once. Changes
// stop only meanwhile.
func TestHeals(t *testing.T) {
	for name, trouble := range map[string]func(f *fake, h *Healer){
		"fork":   func(f *fake, _ *Healer) { f.set(func() { f.forked[7] = true }) },
		"sticky": func(f *fake, _ *Healer) { f.set(func() { f.sticky[7] = make([]replica.Sticky, 1) }) },
		"notice": func(_ *fake, h *Healer) { h.Notice(7) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, h, log := healer(t, mends)
				f.slow = 30 * time.Millisecond
				trouble(f, h)
				time.Sleep(checkInterval + 5*time.Millisecond)
				if !f.isFrozen(7) {
					t.Error("changes are not held up")
				}
				time.Sleep(time.Second)
				calls := f.made()
				if len(calls) != 1 || calls[0].partition != 7 || !calls[0].frozen || calls[0].at > 100*time.Millisecond ||
					!slices.Equal(calls[0].candidates, []string{"theirs", "own"}) {
					t.Errorf("%+v", calls)
				}
				if f.isFrozen(7) {
					t.Error("changes are still held up")
				}
				if got := testutil.ToFloat64(h.metrics.heals) + testutil.ToFloat64(h.metrics.changes) +
					testutil.ToFloat64(h.metrics.apps); got != 1+3+2 {
					t.Errorf("counted %v", got)
				}
				if !strings.Contains(log.String(), "brought back") {
					t.Errorf("log: %s", log)
				}
			})
		})
	}
}

// TestIncomplete: changes stay stopped. The healer tries again with growing pauses, and logs once in 30 s.
func TestIncomplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, h, log := healer(t, func(f *fake) func(context.Context, int) (store.Healed, error) {
			return func(context.Context, int) (store.Healed, error) {
				return store.Healed{}, fmt.Errorf("%w: revision 5", store.ErrIncomplete)
			}
		})
		f.set(func() { f.forked[7] = true })
		time.Sleep(time.Minute)
		calls := f.made()
		if len(calls) < 8 || len(calls) > 20 {
			t.Errorf("%d tries in a minute", len(calls))
		}
		for i := 1; i < len(calls); i++ {
			if calls[i].at-calls[i-1].at < tryInterval || !calls[i].frozen {
				t.Errorf("%+v after %+v", calls[i], calls[i-1])
			}
		}
		if !f.isFrozen(7) || testutil.ToFloat64(h.metrics.incomplete) != float64(len(calls)) ||
			testutil.ToFloat64(h.metrics.frozen) != 1 {
			t.Error("it does not stay frozen, or is not counted")
		}
		if said := strings.Count(log.String(), "neither this authority nor a validator that reports has them"); said != 2 {
			t.Errorf("said %d times in a minute:\n%s", said, log)
		}
		// Another authority has healed it, or an operator.
		f.set(func() { delete(f.forked, 7) })
		time.Sleep(maxTryInterval)
		if f.isFrozen(7) || testutil.ToFloat64(h.metrics.frozen) != 0 {
			t.Error("it stays frozen")
		}
	})
}

// TestNothingToDo: a notice without a loss stops changes once, not for as long as it is repeated.
func TestNothingToDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, h, _ := healer(t, func(*fake) func(context.Context, int) (store.Healed, error) {
			return func(context.Context, int) (store.Healed, error) { return store.Healed{Nothing: true}, nil }
		})
		for range 40 {
			h.Notice(7)
			time.Sleep(250 * time.Millisecond)
		}
		calls := f.made()
		if len(calls) < 3 || len(calls) > 8 || !calls[0].frozen {
			t.Fatalf("%+v", calls)
		}
		for _, c := range calls[1:] {
			if c.frozen {
				t.Errorf("changes are held up again: %+v", c)
			}
		}
		if f.isFrozen(7) {
			t.Error("it stays frozen")
		}
	})
}

// TestSlowPartitionsDoNotHoldUpOthers.
func TestSlowPartitionsDoNotHoldUpOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, h, _ := healer(t, func(f *fake) func(context.Context, int) (store.Healed, error) {
			mend := mends(f)
			return func(ctx context.Context, partition int) (store.Healed, error) {
				if partition < atOnce-1 {
					select {
					case <-ctx.Done():
					case <-time.After(time.Minute):
					}
				}
				return mend(ctx, partition)
			}
		})
		f.set(func() {
			for partition := range partitions {
				f.forked[partition] = true
			}
		})
		_ = h
		time.Sleep(5 * time.Second)
		if calls := f.made(); len(calls) != partitions {
			t.Errorf("%d partitions were tried", len(calls))
		}
		for partition := range partitions {
			if frozen := f.isFrozen(partition); frozen != (partition < atOnce-1) {
				t.Errorf("partition %d frozen: %t", partition, frozen)
			}
		}
	})
}

// TestSettlesAgain: orphans that are settled already are settled again, once. The fleet gives notice under
// its mutex, and is asked meanwhile.
func TestSettlesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, h, _ := healer(t, func(*fake) func(context.Context, int) (store.Healed, error) {
			return func(context.Context, int) (store.Healed, error) { return store.Healed{Nothing: true}, nil }
		})
		raw, tag := linkOf(t, 7)
		f.set(func() { f.orphans, f.held = []record.Tag{tag, {2}}, [][]byte{raw} })
		for range 80 {
			f.mu.Lock()
			if f.orphans != nil {
				h.Notice(7)
			}
			f.mu.Unlock()
			time.Sleep(250 * time.Millisecond)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if !slices.Equal(f.settled, []record.Tag{tag}) {
			t.Errorf("settled %v, want %v alone: nobody has supplied the other", f.settled, tag)
		}
	})
}

// TestB30_AnOperatorsEpochIsHealedWhenTheFleetHasReported: changes stop until every reporting validator has
// reported since the epoch was seen, and the links behind its cursors are at hand. The wait for a validator
// that never reports is longer than its lease, but ends.
func TestB30_AnOperatorsEpochIsHealedWhenTheFleetHasReported(t *testing.T) {
	for _, tt := range []struct {
		name string
		// reports is when a validator reports, 0 for at once. supplies is when it sends its latest link.
		// leads is when the links that connect it to the store's history are sent. 0 is never.
		reports, supplies, leads time.Duration
		// whole says that the validator also sends the start of the epoch, which follows nothing.
		whole  bool
		healed time.Duration
	}{
		{
			name: "it supplies everything from the beginning", supplies: 700 * time.Millisecond, whole: true,
			healed: 700 * time.Millisecond,
		},
		{name: "it supplies links that lead nowhere", supplies: 700 * time.Millisecond, healed: connectPatience},
		{
			name: "it supplies links that lead nowhere, and another one the rest", supplies: 700 * time.Millisecond,
			leads: time.Second, healed: time.Second,
		},
		{name: "it supplies all", supplies: 700 * time.Millisecond, leads: 700 * time.Millisecond, healed: 700 * time.Millisecond},
		{name: "there is no validator", healed: heardAfter},
		{name: "it reports late", reports: 4 * time.Second, healed: 4 * time.Second},
		{name: "it supplies late", supplies: 3 * time.Second, healed: 3 * time.Second},
		{
			name: "it reports late, and supplies later", reports: 4 * time.Second, supplies: 7 * time.Second,
			healed: 7 * time.Second,
		},
		{name: "it never reports", reports: time.Hour, healed: patience},
		{name: "it never supplies", supplies: time.Hour, healed: patience},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, _, log := healer(t, mends)
				raw, _ := linkOf(t, 7)
				link, err := codec.OpenLink(7, raw)
				if err != nil {
					t.Fatal(err)
				}
				f.set(func() {
					f.unhealed[7] = 2
					if tt.reports > 0 {
						f.silent = map[string]time.Time{"validator-1": time.Now().Add(tt.reports)}
					}
					if tt.supplies > 0 {
						f.at = []record.Cursor{link.Cursor}
						held := [][]byte{raw}
						if tt.whole {
							held = append(held, startOf(t, link.Previous()))
						}
						time.AfterFunc(tt.supplies, func() { f.mu.Lock(); f.held = held; f.mu.Unlock() })
					}
					if tt.leads > 0 {
						time.AfterFunc(tt.leads, func() { f.mu.Lock(); f.past = link.Previous(); f.mu.Unlock() })
					}
				})
				time.Sleep(tt.healed - time.Millisecond)
				if calls := f.made(); len(calls) > 0 || !f.isFrozen(7) {
					t.Fatalf("it was healed early: %+v; frozen: %t", calls, f.isFrozen(7))
				}
				time.Sleep(2*awaitInterval + checkInterval + tryInterval)
				if calls := f.made(); len(calls) != 1 || calls[0].waited != 2 || f.isFrozen(7) {
					t.Fatalf("got %+v; frozen: %t\n%s", calls, f.isFrozen(7), log)
				}
				// Each request transfers all links of a partition.
				if most := 6 + int(tt.healed/maxAskInterval); f.asked > most {
					t.Errorf("the validators were asked %d times, at most %d are enough", f.asked, most)
				}
			})
		})
	}
}
