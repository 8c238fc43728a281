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

// TestHeals: a loss that this authority sees, or that a validator gives notice of, is healed at once. The
// store rejects changes of the partition only during the healing.
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
					t.Error("during the healing: partition 7 is not frozen")
				}
				time.Sleep(time.Second)
				calls := f.made()
				if len(calls) != 1 || calls[0].partition != 7 || !calls[0].frozen || calls[0].at > 100*time.Millisecond ||
					!slices.Equal(calls[0].candidates, []string{"theirs", "own"}) {
					t.Errorf("got attempts %+v, want one of partition 7, frozen, with both links", calls)
				}
				if f.isFrozen(7) {
					t.Error("after the healing: partition 7 is still frozen")
				}
				if got := testutil.ToFloat64(h.metrics.heals) + testutil.ToFloat64(h.metrics.changes) +
					testutil.ToFloat64(h.metrics.apps); got != 1+3+2 {
					t.Errorf("sum of the metrics: got %v, want 6", got)
				}
				if !strings.Contains(log.String(), "brought back") {
					t.Errorf("got log %s, want the changes brought back", log)
				}
			})
		})
	}
}

// TestIncomplete: no process has the lost changes. The store rejects changes of the partition. The healer
// tries again with growing pauses, and logs that at most once in 30 s.
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
			t.Errorf("got %d attempts in a minute, want 8 to 20", len(calls))
		}
		for i := 1; i < len(calls); i++ {
			if calls[i].at-calls[i-1].at < tryInterval || !calls[i].frozen {
				t.Errorf("got attempt %+v after %+v, want a pause of at least tryInterval, and frozen", calls[i], calls[i-1])
			}
		}
		if !f.isFrozen(7) || testutil.ToFloat64(h.metrics.incomplete) != float64(len(calls)) ||
			testutil.ToFloat64(h.metrics.frozen) != 1 {
			t.Error("partition 7 is not frozen, or the metrics are wrong")
		}
		if said := strings.Count(log.String(), "neither this authority nor a validator that reports has them"); said != 2 {
			t.Errorf("got the line %d times in a minute, want 2:\n%s", said, log)
		}
		// Another authority, or an operator, has healed the partition.
		f.set(func() { delete(f.forked, 7) })
		time.Sleep(maxTryInterval)
		if f.isFrozen(7) || testutil.ToFloat64(h.metrics.frozen) != 0 {
			t.Error("partition 7 is still frozen after another process has healed it")
		}
		// Another authority may have the missing links.
		if len(f.offered) == 0 || f.offered[0].at > time.Second || f.offered[0].partition != 7 || f.offered[0].links != 2 {
			t.Errorf("got offers %+v, want one of both links of partition 7 at once", f.offered)
		}
		for i := 1; i < len(f.offered); i++ {
			if pause := f.offered[i].at - f.offered[i-1].at; pause < offerInterval || pause > 2*maxTryInterval {
				t.Errorf("got offers %+v, want one in every %s to %s", f.offered, offerInterval, 2*maxTryInterval)
			}
		}
	})
}

// TestNothingToDo: a validator repeats its notice, and the store has lost nothing. The store rejects changes
// during the first attempt only.
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
			t.Fatalf("got attempts %+v, want 3 to 8, the first one frozen", calls)
		}
		for _, c := range calls[1:] {
			if c.frozen {
				t.Errorf("got a later attempt %+v, want it not frozen", c)
			}
		}
		if f.isFrozen(7) {
			t.Error("partition 7 is still frozen at the end")
		}
	})
}

// TestSlowPartitionsDoNotHoldUpOthers: some healings are slow, and leave one slot free. The other partitions
// are healed meanwhile.
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
			t.Errorf("got attempts in %d partitions, want all", len(calls))
		}
		for partition := range partitions {
			if frozen := f.isFrozen(partition); frozen != (partition < atOnce-1) {
				t.Errorf("partition %d: got frozen %t, want the opposite", partition, frozen)
			}
		}
	})
}

// TestSettlesAgain: the store has settled an orphan that a validator still holds. The healer settles it
// again, once. As a real fleet does, the fake calls Notice while it holds its mutex.
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
		if !slices.Contains(f.told, tag) || slices.Contains(f.told, record.Tag{2}) {
			t.Errorf("got the settled changes %v, want %v in them, whose link was used, and not another", f.told, tag)
		}
		if !slices.Equal(f.settled, []record.Tag{tag}) {
			t.Errorf("got settled %v, want %v alone: the link of the other orphan did not arrive", f.settled, tag)
		}
	})
}

// TestB30_AnOperatorsEpochIsHealedWhenTheFleetHasReported: in an operator's epoch the store rejects changes
// until every validator whose lease runs has reported since the epoch was seen, and the links up to its
// cursors have arrived. For a validator that never reports, the wait ends after patience, which is longer
// than a lease.
func TestB30_AnOperatorsEpochIsHealedWhenTheFleetHasReported(t *testing.T) {
	for _, tt := range []struct {
		name string
		// reports is when the validator reports; 0 for at once. supplies is when it sends its latest link.
		// leads is when the store's history includes the change before that link, so that the link connects
		// to it. For supplies and leads, 0 means never.
		reports, supplies, leads time.Duration
		// whole is true when the validator also sends the start of the epoch, which follows no change.
		whole  bool
		healed time.Duration
	}{
		{
			name: "links up to the start of the epoch", supplies: 700 * time.Millisecond, whole: true,
			healed: 700 * time.Millisecond,
		},
		{name: "links that never connect to the history", supplies: 700 * time.Millisecond, healed: connectPatience},
		{
			name: "links that connect to the history later", supplies: 700 * time.Millisecond,
			leads: time.Second, healed: time.Second,
		},
		{name: "all links come", supplies: 700 * time.Millisecond, leads: 700 * time.Millisecond, healed: 700 * time.Millisecond},
		{name: "no validator", healed: heardAfter},
		{name: "a late report", reports: 4 * time.Second, healed: 4 * time.Second},
		{name: "late links", supplies: 3 * time.Second, healed: 3 * time.Second},
		{
			name: "a late report, and later links", reports: 4 * time.Second, supplies: 7 * time.Second,
			healed: 7 * time.Second,
		},
		{name: "no report", reports: time.Hour, healed: patience},
		{name: "a report, and no links", supplies: time.Hour, healed: patience},
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
					t.Fatalf("before the expected time: got attempts %+v, frozen %t; want none, frozen", calls, f.isFrozen(7))
				}
				time.Sleep(2*awaitInterval + checkInterval + tryInterval)
				if calls := f.made(); len(calls) != 1 || calls[0].waited != 2 || f.isFrozen(7) {
					t.Fatalf("got attempts %+v, frozen %t; want one, not frozen\n%s", calls, f.isFrozen(7), log)
				}
				// Each request transfers all links of a partition.
				if most := 6 + int(tt.healed/maxAskInterval); f.asked > most {
					t.Errorf("got %d requests for links, want at most %d", f.asked, most)
				}
			})
		})
	}
}
