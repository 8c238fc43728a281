package replica_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// TestPollsEvery250ms: polls come every 250 ms, give or take a fifth, and nothing else is read, whether there
// are many changes or none.
func TestPollsEvery250ms(t *testing.T) {
	for name, commits := range map[string]int{"idle": 0, "busy": 20} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 4, func(w *world) {
				apps := w.fill(0, 5)
				w.startLoaded()
				var polls []time.Time
				w.faults(storetest.Faults{Step: func(step storetest.Step, _ int) error {
					if step == storetest.AllHeads {
						polls = append(polls, time.Now())
					}
					return nil
				}})
				w.store.ResetCalls()
				for i := range 600 {
					for n := range commits {
						w.store.Commit(apps[n%5], storetest.SetState("second", 1+state(i)))
					}
					w.pass(100 * time.Millisecond)
				}
				shortest, longest := time.Hour, time.Duration(0)
				for i := range polls[1:] {
					shortest, longest = min(shortest, polls[i+1].Sub(polls[i])), max(longest, polls[i+1].Sub(polls[i]))
				}
				if shortest < 200*time.Millisecond || longest > 300*time.Millisecond+2*latency {
					w.Errorf("pauses from %v to %v", shortest, longest)
				}
				if spread := longest - shortest; spread < 80*time.Millisecond {
					w.Errorf("pauses from %v to %v: many replicas would poll in step", shortest, longest)
				}
				calls := w.store.Calls()
				if mean := time.Minute / time.Duration(calls.Heads); mean < 240*time.Millisecond || mean > 260*time.Millisecond {
					w.Errorf("%d polls in a minute: one in %v", calls.Heads, mean)
				}
				for partition := range 4 {
					if calls.Tails[partition]+calls.Documents[partition] > 0 {
						w.Errorf("more than polls: %+v", calls)
					}
				}
			})
		})
	}
}

// TestDownStoreIsPolledAtTheSamePace, however its reads fail, and the log says so once.
func TestDownStoreIsPolledAtTheSamePace(t *testing.T) {
	simulate(t, 4, func(w *world) {
		app := w.fill(0, 5)[0]
		w.startLoaded()
		w.store.ResetCalls()
		w.log.clear()
		w.faults(storetest.Faults{Down: errRefused})
		w.pass(time.Minute)
		if calls := w.store.Calls(); calls.Heads > 260 || calls.Heads < 230 || calls.Tails[0] > 1 {
			w.Errorf("reads in a minute: %+v", calls)
		}
		if n := w.log.count("the store does not answer"); n != 1 {
			w.Errorf("said %d times:\n%s", n, w.log)
		}
		if age := w.age(0); age < time.Minute || age > time.Minute+longestPoll {
			w.Errorf("the data is %v old after a minute", age)
		}
		w.faults(storetest.Faults{})
		w.pass(longestPoll + 2*latency)
		w.mustBeFresh(0)
		if n := w.log.count("the store answers again"); n != 1 {
			w.Errorf("said %d times that it answers", n)
		}
		w.pass(enough) // until it has subscribed again
		w.commit(app, storetest.AddToken("third"))
		w.mustEqualStore()
	})
}

// TestHalfOpenReadsEnd: reads of a source that does not answer time out, and polls go on.
func TestHalfOpenReadsEnd(t *testing.T) {
	simulate(t, 1, func(w *world) {
		w.fill(0, 5)
		w.startLoaded()
		w.faults(storetest.Faults{Latency: func() time.Duration { return time.Hour }})
		w.pass(time.Minute)
		w.faults(storetest.Faults{})
		w.pass(replica.PollTimeout + longestPoll + 2*latency)
		w.mustBeFresh(0)
	})
}

// TestReachReadsOnceIn10ms, however many callers wait.
func TestReachReadsOnceIn10ms(t *testing.T) {
	simulate(t, 2, func(w *world) {
		app := w.fill(0, 3)[0]
		w.startLoaded()
		w.faults(storetest.Faults{Hint: deaf})
		ahead := w.store.Predict(app, storetest.AddToken("third")).Cursor
		var reads []time.Time
		w.faults(storetest.Faults{Hint: deaf, Step: func(step storetest.Step, partition int) error {
			if step == storetest.TailHead {
				if partition != 0 {
					w.Errorf("read partition %d for one of partition 0", partition)
				}
				reads = append(reads, time.Now())
			}
			return nil
		}})
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		results := make(chan error, 100)
		for i := range cap(results) {
			go func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				results <- w.r.Reach(ctx, 0, ahead)
			}()
		}
		for range cap(results) {
			if err := <-results; !errors.Is(err, replica.ErrNotReached) {
				w.Errorf("%v, want ErrNotReached", err)
			}
		}
		for i := range reads[1:] {
			if pause := reads[i+1].Sub(reads[i]); pause < replica.ReadInterval {
				w.Errorf("two reads within %v", pause)
			}
		}
		if len(reads) < 2 || len(reads) > 5 { // 10, 20, 40 and 80 ms apart; the last caller comes after 99 ms
			w.Errorf("%d reads in a second", len(reads))
		}
	})
}

// TestWorkerSlowsDownWhenItFails, and is fast again after a success.
func TestWorkerSlowsDownWhenItFails(t *testing.T) {
	simulate(t, 1, func(w *world) {
		app := w.fill(0, 3)[0]
		w.startLoaded()
		w.faults(storetest.Faults{Step: func(step storetest.Step, _ int) error {
			if step == storetest.TailHead {
				return errRefused
			}
			return nil
		}})
		w.store.ResetCalls()
		w.store.Publish(0, []byte("garbage")) // so that it reads
		w.pass(time.Minute)
		if calls := w.store.Calls(); calls.Tails[0] < 20 || calls.Tails[0] > 40 {
			w.Errorf("%d tries in a minute", calls.Tails[0])
		}
		w.faults(storetest.Faults{})
		w.pass(3 * time.Second)
		w.store.ResetCalls()
		w.faults(storetest.Faults{Hint: deaf})
		made := w.commit(app, storetest.AddToken("third"))
		began := time.Now()
		if err := w.r.Reach(w.Context(), 0, made.Cursor); err != nil || time.Since(began) > 2*replica.ReadInterval {
			w.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// narrow is a store whose answers are lost when they hold many links.
type narrow struct {
	*storetest.Store
	most int
}

func (n narrow) Tail(ctx context.Context, partition int, after uint64, limit int) ([]byte, []record.RawEntry, error) {
	head, links, err := n.Store.Tail(ctx, partition, after, limit)
	if err == nil && len(links) > n.most {
		return nil, nil, errRefused
	}
	return head, links, err
}

// TestReadsFewerLinksWhenManyDoNotArrive, down to the least number with which it makes progress.
func TestReadsFewerLinksWhenManyDoNotArrive(t *testing.T) {
	for _, most := range []int{2, 10, 100} {
		simulate(t, 1, func(w *world) {
			apps := w.fill(0, 3)
			w.source = narrow{w.store, most}
			w.startLoaded()
			w.faults(storetest.Faults{Hint: deaf})
			w.store.ResetCalls()
			for i := range 300 {
				w.store.Commit(apps[i%3], storetest.SetState("second", 1+state(i)))
			}
			w.pass(2 * enough)
			w.mustEqualStore()
			w.mustBeFresh(0)
			if calls := w.store.Calls(); calls.Documents[0] > 0 {
				w.Errorf("at most %d: read everything: %+v", most, calls)
			}
		})
	}
}

// TestWhatHappensAgainAndAgainDoesNotFloodTheLog: a repeated message is logged rarely, with the number of
// omitted lines.
func TestWhatHappensAgainAndAgainDoesNotFloodTheLog(t *testing.T) {
	simulate(t, 2, func(w *world) {
		w.fill(0, 5)
		w.startLoaded()
		w.log.clear()
		const minutes = 5
		for range minutes * 600 {
			w.store.Publish(0, []byte("garbage"))
			w.pass(100 * time.Millisecond)
		}
		if n, most := w.log.count("hint does not verify"), int(minutes*time.Minute/replica.QuietTime)+1; n < 2 || n > most {
			w.Errorf("said %d times, want at most %d", n, most)
		}
		if n := w.log.count("omitted=29"); n == 0 {
			w.Errorf("nowhere is said how often it was left out:\n%s", w.log)
		}
	})
}
