package usage_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/usage"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func count(app string, n uint64) usage.Count {
	return usage.Count{AppID: app, Scope: events, Reason: policy.TokenMissing, Minute: noon, N: n}
}

// inOne is an outbox of one partition.
func inOne() *usage.Outbox { return usage.NewOutbox(1, func(string) int { return 0 }) }

// wantNext checks the number of the next batch; 0 for none.
func wantNext(t *testing.T, o *usage.Outbox, now time.Time, number uint64, counts int, oldest bool) {
	t.Helper()
	b, due := o.Next(now)
	if due != (number > 0) || b.Number != number || len(b.Counts) != counts || b.Oldest != oldest {
		t.Fatalf("got batch %d of %d counts, oldest %t, due %t; want %d of %d, oldest %t", b.Number, len(b.Counts), b.Oldest, due,
			number, counts, oldest)
	}
}

// TestB21_OneBatchAtATime: the next batch of a partition waits for the answer to the one before. It gets all
// counts that came meanwhile, each kind once.
func TestB21_OneBatchAtATime(t *testing.T) {
	o, now := inOne(), noon
	wantNext(t, o, now, 0, 0, false)
	o.Put([]usage.Count{count("a", 1)}, true, now)
	wantNext(t, o, now, 1, 1, true)
	o.Put([]usage.Count{count("b", 1)}, true, now)
	wantNext(t, o, now.Add(usage.ResendAfter-1), 0, 0, false)
	o.Acknowledge(0, 1, now)
	wantNext(t, o, now, 2, 1, false)
}

// TestB21_SentAgain: a batch without an answer is sent again, as it was, after a while and after a reconnect.
func TestB21_SentAgain(t *testing.T) {
	o, now := inOne(), noon
	o.Put([]usage.Count{count("a", 1)}, true, now)
	wantNext(t, o, now, 1, 1, true)
	o.Put([]usage.Count{count("b", 1)}, true, now)
	now = now.Add(usage.ResendAfter)
	wantNext(t, o, now, 1, 1, true)
	wantNext(t, o, now, 0, 0, false)
	o.Reconnected()
	wantNext(t, o, now, 1, 1, true)
}

// TestB21_QuestionFindsWhatAFailoverLost: an outbox without new counts asks about those that it holds. It
// sends again what is no longer counted.
func TestB21_QuestionFindsWhatAFailoverLost(t *testing.T) {
	o, now := inOne(), noon
	for i := range uint64(3) {
		o.Put([]usage.Count{count("a", 1)}, true, now.Add(time.Duration(i)*time.Second))
		wantNext(t, o, now, i+1, 1, i == 0)
		o.Acknowledge(0, i+1, now)
	}
	if until := o.CompleteUntil(); !until.Equal(noon.Add(2 * time.Second)) {
		t.Errorf("complete until %v", until)
	}
	wantNext(t, o, now, 0, 0, false)
	now = now.Add(10 * time.Second)
	wantNext(t, o, now, 3, 0, false) // the question
	o.Acknowledge(0, 1, now)         // 2 and 3 are lost
	if until := o.CompleteUntil(); !until.Equal(noon) {
		t.Errorf("lost counts are called complete: until %v", until)
	}
	now = now.Add(time.Second)
	wantNext(t, o, now, 2, 1, false)
	o.Acknowledge(0, 2, now)
	wantNext(t, o, now, 3, 1, false)
	o.Acknowledge(0, 3, now)
	for range 3 {
		now = now.Add(10 * time.Second)
		wantNext(t, o, now, 3, 0, false)
		o.Acknowledge(0, 3, now)
	}
	if s := o.Stats(); s != (usage.OutboxStats{}) {
		t.Errorf("confirmed batches are still held: %+v", s)
	}
	wantNext(t, o, now.Add(59*time.Second), 0, 0, false)
	now = now.Add(time.Minute)
	wantNext(t, o, now, 3, 0, true) // asked also when nothing is held
	o.Acknowledge(0, 3, now)
	wantNext(t, o, now, 0, 0, false)
	o.Put([]usage.Count{count("a", 1)}, true, now)
	wantNext(t, o, now, 4, 1, true)
}

// TestB21_AnswerThatCannotBe: an answer about a batch that was never made, or about another partition, counts
// nothing. An authority that never counts is not asked all the time.
func TestB21_AnswerThatCannotBe(t *testing.T) {
	o, now := inOne(), noon
	o.Put([]usage.Count{count("a", 1)}, true, now)
	wantNext(t, o, now, 1, 1, true)
	o.Acknowledge(0, 2, now)
	o.Acknowledge(1, 1, now)
	o.Acknowledge(-1, 1, now)
	if s := o.Stats(); s.Unacknowledged != 1 {
		t.Errorf("%+v", s)
	}
	o.Acknowledge(0, 0, now)
	wantNext(t, o, now, 0, 0, false)
	wantNext(t, o, now.Add(time.Second), 1, 1, true)
}

// TestB21_OutboxIsBounded: an outbox holds as many counts as a counter. Acknowledged ones give way to new
// ones. A batch is small enough for a message.
func TestB21_OutboxIsBounded(t *testing.T) {
	o, now := inOne(), noon
	fill := func(n int) {
		counts := make([]usage.Count, n)
		for i := range counts {
			counts[i] = count(fmt.Sprint(i), 1)
		}
		o.Put(counts, true, now)
	}
	fill(usage.MaxEntries - 10)
	if o.Room() != 10 {
		t.Errorf("room for %d, want 10", o.Room())
	}
	number := uint64(0)
	for {
		b, due := o.Next(now)
		if !due {
			break
		}
		number++
		if len(b.Counts) > usage.MaxBatch || b.Number != number {
			t.Fatalf("batch %d has %d counts", b.Number, len(b.Counts))
		}
		o.Acknowledge(0, number, now)
	}
	if o.Room() != usage.MaxEntries {
		t.Errorf("room for %d beside acknowledged counts", o.Room())
	}
	fill(usage.MaxBatch)
	if s := o.Stats(); s.Counts > usage.MaxEntries {
		t.Errorf("%d counts are held", s.Counts)
	}
}

// TestB21_SameKindsAddUp: counts that wait take one entry for each kind and minute.
func TestB21_SameKindsAddUp(t *testing.T) {
	o := inOne()
	for range 10_000 {
		o.Put([]usage.Count{count("a", 1), count("b", 2)}, true, noon)
	}
	if s := o.Stats(); s.Counts > usage.MaxBatch {
		t.Errorf("%d counts are held of 2 kinds", s.Counts)
	}
	b, _ := o.Next(noon)
	if merged := usage.Merge(append([]usage.Count(nil), b.Counts...)); len(merged) != 2 || merged[0] != count("a", 10_000) ||
		merged[1] != count("b", 20_000) {
		t.Errorf("%v", merged)
	}
}

// authority is the model of an authority: what it has counted, and how far.
type authority struct {
	seen  map[int]uint64
	total map[string]uint64
}

func (a *authority) clone() *authority {
	c := &authority{map[int]uint64{}, map[string]uint64{}}
	for k, v := range a.seen {
		c.seen[k] = v
	}
	for k, v := range a.total {
		c.total[k] = v
	}
	return c
}

func (a *authority) add(b usage.Batch) uint64 {
	if seen := a.seen[b.Partition]; len(b.Counts) > 0 && (b.Number == seen+1 || b.Oldest && b.Number > seen) {
		a.seen[b.Partition] = b.Number
		for _, c := range b.Counts {
			a.total[c.AppID] += c.N
		}
	}
	return a.seen[b.Partition]
}

// TestB21_EachCountOnce: whatever is lost, repeated or late, and whatever a failover within ConfirmAfter
// takes away, each decision is counted once in the end.
func TestB21_EachCountOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		partitions := rapid.IntRange(1, 3).Draw(t, "partitions")
		o := usage.NewOutbox(partitions, func(app string) int { return int(app[0]) % partitions })
		now, a := noon, &authority{map[int]uint64{}, map[string]uint64{}}
		type state struct {
			at time.Time
			*authority
		}
		past := []state{{now, a.clone()}}
		sent := map[string]uint64{}
		var late []usage.Batch
		add := func(b usage.Batch) uint64 {
			number := a.add(b)
			past = append(past, state{now, a.clone()})
			return number
		}
		for range rapid.IntRange(1, 150).Draw(t, "steps") {
			steps := []string{"put", "send", "send", "send", "wait", "late", "failover", "reconnect"}
			switch rapid.SampledFrom(steps).Draw(t, "step") {
			case "put":
				app := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "app")
				n := rapid.Uint64Range(1, 5).Draw(t, "n")
				sent[app] += n
				o.Put([]usage.Count{count(app, n)}, true, now)
			case "send":
				b, due := o.Next(now)
				if !due {
					continue
				}
				switch rapid.SampledFrom([]string{"answered", "answered", "request lost", "answer lost", "late"}).Draw(t, "fate") {
				case "answered":
					o.Acknowledge(b.Partition, add(b), now)
				case "answer lost":
					add(b)
				case "late":
					late = append(late, b)
				}
			case "late": // nobody waits for the answer any more
				if len(late) > 0 {
					add(late[0])
					late = late[1:]
				}
			case "wait":
				now = now.Add(rapid.SampledFrom([]time.Duration{time.Second, 5 * time.Second, 11 * time.Second}).Draw(t, "wait"))
			case "failover":
				// The hold begins when the first answer arrives, which is never before the addition.
				first := len(past) - 1
				for first > 0 && now.Sub(past[first-1].at) < usage.ConfirmAfter-12*time.Second {
					first--
				}
				a = past[rapid.IntRange(first, len(past)-1).Draw(t, "state")].clone()
				past = append(past, state{now, a.clone()})
			case "reconnect":
				o.Reconnected()
			}
		}
		for range 1000 {
			now = now.Add(5 * time.Second)
			for {
				b, due := o.Next(now)
				if !due {
					break
				}
				o.Acknowledge(b.Partition, add(b), now)
			}
			if o.Stats() == (usage.OutboxStats{}) {
				break
			}
		}
		for app, n := range sent {
			if a.total[app] != n {
				t.Fatalf("%d decisions of %s are counted, want %d", a.total[app], app, n)
			}
		}
		if len(sent) > 0 && o.CompleteUntil().IsZero() {
			t.Fatal("not complete")
		}
	})
}
