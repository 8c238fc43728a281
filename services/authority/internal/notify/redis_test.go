package notify_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/notify"
	"github.com/countersign/countersign/services/store"
)

// newAuthority returns an outbox as an authority has it after a start: with connections of its own.
func newAuthority(t *testing.T, redis *redistest.Server, url string) *notify.Outbox {
	t.Helper()
	client := check.Must(redisfeed.Open(redis.URL(), redisfeed.Options{}))(t)
	t.Cleanup(func() { client.Close() })
	return newOutbox(t, store.NewErrands(client, "0123456789abcdef"), url)
}

// inbox is a receiver that verifies every message, and answers as answers says. A test holds the lock while
// it reads what arrived, or changes what answers reads.
type inbox struct {
	answers func(w http.ResponseWriter) (confirmed bool)

	sync.Mutex
	tries     map[string]int
	confirmed map[string]int
	bodies    map[string]map[string]bool // the different bodies of each id
}

func newInbox(t *testing.T, answers func(w http.ResponseWriter) bool) (*inbox, string) {
	t.Helper()
	verifier := check.Must(standardwebhooks.NewWebhook(secret))(t)
	i := &inbox{answers: answers, tries: map[string]int{}, confirmed: map[string]int{}, bodies: map[string]map[string]bool{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		i.Lock()
		defer i.Unlock()
		body, err := io.ReadAll(request.Body)
		if err != nil {
			t.Error(err)
		}
		if err := verifier.Verify(body, request.Header); err != nil {
			t.Errorf("the signature does not verify: %v", err)
		}
		id := request.Header.Get("webhook-id")
		i.tries[id]++
		if i.bodies[id] == nil {
			i.bodies[id] = map[string]bool{}
		}
		i.bodies[id][string(body)] = true
		if i.answers(w) {
			i.confirmed[id]++
		}
	}))
	t.Cleanup(server.Close)
	return i, server.URL
}

// TestB29_AnHourWithoutTheReceiver: the outbox is in Redis. The receiver is down for an hour, notices are
// found before and during that hour, and the authority restarts in the middle. Each notice arrives once by
// its id, and none is lost.
func TestB29_AnHourWithoutTheReceiver(t *testing.T) {
	redis := redistest.Start(t)
	down := false
	var drop bool // whether a receiver that is down closes the connection, or answers 503
	receiver, url := newInbox(t, func(w http.ResponseWriter) bool {
		switch {
		case !down:
			return true
		case drop:
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return false
	})
	authority := newAuthority(t, redis, url)
	began := time.Now()
	found := []*countersignv1.Notice{notice("before")}
	for minute := -10; minute < 180; minute++ {
		var once []*countersignv1.Notice
		receiver.Lock()
		switch minute {
		case 0:
			down = true
		case 10:
			found = append(found, notice("during"))
		case 20:
			once = []*countersignv1.Notice{notice("found once")}
		case 30:
			if receiver.confirmed["during"] != 0 || receiver.tries["during"] == 0 || receiver.tries["found once"] == 0 {
				t.Errorf("before the restart: tries %v, confirmed %v", receiver.tries, receiver.confirmed)
			}
			authority, drop = newAuthority(t, redis, url), true
		case 40:
			found = append(found, notice("after the restart"))
		case 60:
			down = false
		}
		receiver.Unlock()
		work(t, authority, began.Add(time.Duration(minute)*time.Minute), append(once, found...)...)
	}
	receiver.Lock()
	defer receiver.Unlock()
	want := map[string]int{"before": 1, "during": 1, "found once": 1, "after the restart": 1}
	if !maps.Equal(receiver.confirmed, want) {
		t.Errorf("got %v, want %v", receiver.confirmed, want)
	}
	// It is tried after 0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5 and 63.5 minutes.
	if receiver.tries["during"] > 8 {
		t.Errorf("%d tries in the hour", receiver.tries["during"])
	}
	for id, bodies := range receiver.bodies {
		if len(bodies) != 1 {
			t.Errorf("%s has several bodies: %v", id, slices.Collect(maps.Keys(bodies)))
		}
	}
}

// TestB29_LostNoteOfADelivery: Redis stops between a delivery and the note about it. An authority that goes
// on notes it later. One that restarts meanwhile delivers the notice again, with the same id and body.
func TestB29_LostNoteOfADelivery(t *testing.T) {
	for _, tt := range []struct {
		name    string
		restart bool
		want    int
	}{{"the authority goes on", false, 1}, {"the authority restarts", true, 2}} {
		t.Run(tt.name, func(t *testing.T) {
			redis := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
			stop := true
			receiver, url := newInbox(t, func(http.ResponseWriter) bool {
				if stop {
					redis.Stop()
				}
				stop = false
				return true
			})
			authority := newAuthority(t, redis, url)
			now := time.Now()
			work(t, authority, now, notice("n1"))
			receiver.Lock()
			if receiver.confirmed["n1"] != 1 || redis.Running() {
				t.Errorf("confirmed %v, Redis runs: %t", receiver.confirmed, redis.Running())
			}
			receiver.Unlock()
			if err := authority.Work(t.Context(), nil, now.Add(time.Minute)); err == nil {
				t.Error("without Redis there is no error")
			}
			redis.Restart()
			if raw := check.Must(redis.Do("HGET", "csu:01234567:notices", "n1"))(t); !strings.Contains(fmt.Sprint(raw), `"pending"`) {
				t.Fatalf("the delivery was noted: %v", raw)
			}
			if tt.restart {
				authority = newAuthority(t, redis, url)
			}
			for i := 2; i < 100; i++ {
				work(t, authority, now.Add(time.Duration(i)*time.Minute), notice("n1"))
			}
			receiver.Lock()
			defer receiver.Unlock()
			if receiver.confirmed["n1"] != tt.want || len(receiver.confirmed) != 1 || len(receiver.bodies["n1"]) != 1 {
				t.Errorf("confirmed %v times, bodies %v", receiver.confirmed, receiver.bodies)
			}
		})
	}
}
