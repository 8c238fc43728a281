package notify_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/notify"
)

// earlier is an entry as earlier releases wrote it, with a payload in every state.
func earlier(state string, at time.Time) string {
	return fmt.Sprintf(`{"state":%q,"attempts":1,"done_millis":%d,"created_millis":%d,"payload":{"type":"x"}}`,
		state, at.UnixMilli(), at.UnixMilli())
}

// tombstone is the entry of a notice that was delivered, and last found at a time.
func tombstone(found time.Time) string {
	return fmt.Sprintf(`{"state":"delivered","attempts":1,"done_millis":1,"found_millis":%d}`, found.UnixMilli())
}

// TestB29_HeldForLongIsSentOnce: a notice holds for 100 days. It is sent once, and its entry is written once
// a day.
func TestB29_HeldForLongIsSentOnce(t *testing.T) {
	r, store := newReceiver(t), &memory{entries: map[string]string{}}
	outbox := newOutbox(t, store, r.server.URL)
	began := time.Now()
	for at := time.Duration(0); at < 100*24*time.Hour; at += time.Hour {
		work(t, outbox, began.Add(at), notice("n1"))
	}
	if len(r.got["n1"]) != 1 {
		t.Errorf("sent %d times", len(r.got["n1"]))
	}
	if store.writes > 102 {
		t.Errorf("the outbox was written %d times in 100 days", store.writes)
	}
	// Nobody looked for notices for 50 days.
	work(t, outbox, began.Add(150*24*time.Hour), notice("n1"))
	if len(r.got["n1"]) != 1 {
		t.Errorf("sent %d times after 50 days without an authority", len(r.got["n1"]))
	}
}

// TestB29_EndedNoticesTakeNoRoom: 10,000 notices that were delivered or given up do not keep a new one from
// being sent. Their payloads are removed, also those that an earlier release wrote.
func TestB29_EndedNoticesTakeNoRoom(t *testing.T) {
	r, store := newReceiver(t), &memory{entries: map[string]string{}}
	now := time.Now()
	for i := range 10_000 {
		store.entries[fmt.Sprint("old", i)] = earlier([]string{"delivered", "given_up"}[i%2], now.Add(-30*24*time.Hour))
	}
	outbox := newOutbox(t, store, r.server.URL)
	for i := range 5 {
		work(t, outbox, now.Add(time.Duration(i)*time.Minute), notice("n1"))
	}
	if len(r.got["n1"]) != 1 || len(r.got) != 1 {
		t.Errorf("got %d notices, and the new one %d times", len(r.got), len(r.got["n1"]))
	}
	if len(store.entries) != 10_001 {
		t.Errorf("%d entries are left of those that an earlier release would still remember", len(store.entries)-1)
	}
	for id, raw := range store.entries {
		if strings.Contains(raw, "payload") {
			t.Fatalf("%s still has a payload: %s", id, raw)
		}
	}
	// An authority of an earlier release forgets an entry by its done_millis.
	var e struct {
		State  string
		Done   int64 `json:"done_millis"`
		Before int64 `json:"created_millis"`
	}
	if err := json.Unmarshal([]byte(store.entries["n1"]), &e); err != nil {
		t.Fatal(err)
	}
	if e.State != "delivered" || e.Done < now.UnixMilli() || e.Before != 0 {
		t.Errorf("got %s", store.entries["n1"])
	}
	// They are forgotten when an earlier release would have forgotten them.
	for range 10 {
		work(t, outbox, now.Add(8*24*time.Hour), notice("n1"))
	}
	if len(store.entries) != 1 {
		t.Errorf("%d entries are left", len(store.entries))
	}
}

// TestB29_PendingNoticesAreBounded: while 10,000 notices wait for the receiver, further ones are not added.
// They are added when there is room.
func TestB29_PendingNoticesAreBounded(t *testing.T) {
	r, store := newReceiver(t), &memory{entries: map[string]string{}}
	now := time.Now().Truncate(time.Millisecond)
	later := now.Add(time.Hour)
	for i := range 9_999 {
		store.entries[fmt.Sprint("old", i)] = fmt.Sprintf(
			`{"state":"pending","attempts":9,"next_millis":%d,"created_millis":%d,"payload":{"type":"x"}}`,
			later.UnixMilli(), now.UnixMilli())
	}
	outbox := newOutbox(t, store, r.server.URL)
	work(t, outbox, now, notice("n1"), notice("n2"), notice("n2"))
	if len(r.got) != 1 || len(r.got["n1"]) != 1 || len(store.entries) != 10_000 {
		t.Errorf("with room for one: got %d notices, %d entries", len(r.got), len(store.entries))
	}
	work(t, outbox, now, notice("n1"), notice("n2"))
	if len(r.got) != 2 || len(r.got["n2"]) != 1 {
		t.Errorf("with room again: got %d notices", len(r.got))
	}
}

// TestB29_TheOutboxIsBounded: when the outbox has 100,000 entries, new notices take the room of those that
// were not found for longest. Those that may still hold stay, so that they are not sent again, and those that
// were not sent yet.
func TestB29_TheOutboxIsBounded(t *testing.T) {
	const day = 24 * time.Hour
	r, store := newReceiver(t), &memory{entries: map[string]string{}}
	now := time.Now()
	for i := range 99_996 {
		store.entries[fmt.Sprint("recent", i)] = tombstone(now.Add(-47 * time.Hour))
	}
	store.entries["not sent"] = earlier("pending", now.Add(-40*day))
	store.entries["held"] = tombstone(now.Add(-30 * day))
	store.entries["oldest"] = tombstone(now.Add(-20 * day))
	store.entries["old"] = tombstone(now.Add(-10 * day))
	outbox := newOutbox(t, store, r.server.URL)
	found := []*countersignv1.Notice{notice("held"), notice("n1"), notice("n2"), notice("n3")}
	work(t, outbox, now, found...)
	if len(r.got) != 3 || len(r.got["n1"]) != 1 || len(r.got["n2"]) != 1 || len(r.got["not sent"]) != 1 ||
		len(store.entries) != 100_000 || store.entries["oldest"] != "" || store.entries["old"] != "" {
		t.Errorf("with room for two: got %v, %d entries", r.got, len(store.entries))
	}
	// Two hours later, the recent ones do not hold any more.
	work(t, outbox, now.Add(2*time.Hour), found...)
	if len(r.got) != 4 || len(r.got["n3"]) != 1 || len(store.entries) != 100_000 {
		t.Errorf("with room again: got %v, %d entries", r.got, len(store.entries))
	}
}

// TestB29_AnotherAuthoritysDeliveryStands: an authority fails to deliver a notice that another one has
// delivered meanwhile. The failure does not replace the delivery.
func TestB29_AnotherAuthoritysDeliveryStands(t *testing.T) {
	store := &memory{entries: map[string]string{}}
	now, tries := time.Now(), 0
	outbox := overTransport(t, store, func(request *http.Request) (*http.Response, error) {
		tries++
		if err := store.PutNotice(request.Context(), "n1", tombstone(now)); err != nil {
			t.Error(err)
		}
		return answer(http.StatusServiceUnavailable), nil
	})
	for i := range 10 {
		work(t, outbox, now.Add(time.Duration(i)*time.Minute), notice("n1"))
	}
	if tries != 1 || !strings.Contains(store.entries["n1"], "delivered") {
		t.Errorf("%d tries, %s", tries, store.entries["n1"])
	}
}

// slow adds a notice as another authority does, before this one does.
type slow struct {
	*memory
	first func()
}

func (s *slow) AddNotices(ctx context.Context, entries map[string]string) ([]string, error) {
	s.first()
	return s.memory.AddNotices(ctx, entries)
}

// TestB29_AnotherAuthoritysNoticeIsLeftToIt: a notice that another authority has added and delivered since
// this one read the outbox is not sent again.
func TestB29_AnotherAuthoritysNoticeIsLeftToIt(t *testing.T) {
	r, store := newReceiver(t), &memory{entries: map[string]string{}}
	now := time.Now()
	work(t, newOutbox(t, &slow{store, func() { store.entries["n1"] = tombstone(now) }}, r.server.URL), now,
		notice("n1"), notice("n2"))
	if len(r.got["n1"]) != 0 || len(r.got["n2"]) != 1 {
		t.Errorf("got %v", r.got)
	}
}

// TestB29_NotedAtTheEnd: an authority that ends just after a delivery still notes it.
func TestB29_NotedAtTheEnd(t *testing.T) {
	store := &memory{entries: map[string]string{}}
	ctx, stop := context.WithCancel(t.Context())
	outbox := overTransport(t, store, func(*http.Request) (*http.Response, error) {
		stop()
		return answer(http.StatusOK), nil
	})
	if err := outbox.Work(ctx, []*countersignv1.Notice{notice("n1")}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(store.entries["n1"], "delivered") {
		t.Errorf("got %s", store.entries["n1"])
	}
}

// TestB29_FullStoreStopsDeliveries: while results cannot be written, no further notices are delivered, and
// those that were delivered are not delivered again.
func TestB29_FullStoreStopsDeliveries(t *testing.T) {
	r, store := newReceiver(t), &memory{entries: map[string]string{}}
	now := time.Now()
	r.setDown(true)
	var found []*countersignv1.Notice
	for i := range 50 {
		found = append(found, notice(fmt.Sprint("n", i)))
	}
	outbox := newOutbox(t, store, r.server.URL)
	work(t, outbox, now, found...)
	r.setDown(false)
	store.failing = true
	for i := 1; i <= 10; i++ {
		_ = outbox.Work(t.Context(), found, now.Add(time.Duration(i)*time.Minute))
	}
	if len(r.got) > 4 {
		t.Errorf("%d deliveries could not be noted", len(r.got))
	}
	store.failing = false
	work(t, outbox, now.Add(time.Hour), found...)
	for _, n := range found {
		if got := len(r.got[n.GetNoticeId()]); got != 1 {
			t.Errorf("%s arrived %d times", n.GetNoticeId(), got)
		}
	}
}

// TestB29_ClockAheadDoesNotDelay: an authority whose clock was ahead wrote when the next delivery is due.
func TestB29_ClockAheadDoesNotDelay(t *testing.T) {
	r, store := newReceiver(t), &memory{entries: map[string]string{}}
	outbox := newOutbox(t, store, r.server.URL)
	now := time.Now()
	r.setDown(true)
	work(t, outbox, now.Add(30*24*time.Hour), notice("n1"))
	r.setDown(false)
	work(t, outbox, now, notice("n1"))
	if len(r.got["n1"]) != 1 {
		t.Errorf("got %v", r.got)
	}
}

// TestB29_HangingReceiver: the receiver hangs for 100 notices. They do not hold up the upkeep, nor a notice
// that is younger and due for longer.
func TestB29_HangingReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		waiting := func(created, next time.Time) string {
			return fmt.Sprintf(`{"state":"pending","attempts":9,"next_millis":%d,"created_millis":%d,"payload":{"type":"x"}}`,
				next.UnixMilli(), created.UnixMilli())
		}
		store := &memory{entries: map[string]string{"good": waiting(now.Add(-2*time.Hour), now.Add(-time.Hour))}}
		for i := range 100 {
			store.entries[fmt.Sprint("n", i)] = waiting(now.Add(-24*time.Hour), now.Add(-time.Minute))
		}
		var arrived atomic.Int32
		outbox := overTransport(t, store, func(request *http.Request) (*http.Response, error) {
			if request.Header.Get("webhook-id") == "good" {
				arrived.Add(1)
				return answer(http.StatusOK), nil
			}
			<-request.Context().Done()
			return nil, request.Context().Err()
		})
		work(t, outbox, now)
		if took := time.Since(now); took > 31*time.Second {
			t.Errorf("one round took %v", took)
		}
		if arrived.Load() != 1 {
			t.Error("the notice that was due first was not delivered first")
		}
	})
}

// transport carries requests by a function.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

// overTransport returns an outbox whose requests a function answers.
func overTransport(t *testing.T, store notify.Store, answers transport) *notify.Outbox {
	t.Helper()
	hook, err := notify.NewWebhook("https://example.com/", secret)
	if err != nil {
		t.Fatal(err)
	}
	hook.SetTransport(answers)
	return notify.NewOutbox(store, hook, notify.NewMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler))
}

func answer(status int) *http.Response {
	return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(""))}
}
