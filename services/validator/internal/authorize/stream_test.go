package authorize

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/storetest"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/validator/internal/wire"
)

type request = *countersignv1.AuthorizeRequest

// B19, B20, B25: each request of a stream is answered on its own, and counted as a call is.
func TestB19_StreamAnswersEachRequest(t *testing.T) {
	w := startWorld(t)
	bulk := NewBulk(w.service, testServer{})
	line := talk(t, bulk)
	reached := w.request()
	reached.MinRevision = record.EncodePosition(
		record.Position{StoreID: w.store.Meta().StoreID, Partition: 3, Cursor: w.store.Head(3).Cursor},
	)
	noToken := &countersignv1.AuthorizeRequest{AppId: w.app, Scope: events}
	for _, tt := range []struct {
		name  string
		first request
		more  []request
		want  map[uint64]outcome
	}{
		{"one", w.request(), nil, map[uint64]outcome{1: valid}},
		{"another kind after it", noToken, nil, map[uint64]outcome{1: missing}},
		{"an empty message", nil, nil, map[uint64]outcome{1: malform}},
		{"after a failure", w.request(), nil, map[uint64]outcome{1: valid}},
		{
			"several, of which some fail", noToken,
			[]request{
				w.request(),
				{AppId: "no app"},
				{AppId: w.app, Scope: 99},
				reached,
				{AppId: w.app, MinRevision: "x", Scope: events},
				w.request(),
			},
			map[uint64]outcome{1: missing, 2: valid, 3: malform, 4: malform, 5: valid, 6: malform, 7: valid},
		},
		{"a failure first", nil, []request{w.request(), noToken}, map[uint64]outcome{1: malform, 2: valid, 3: missing}},
		{"fewer again", noToken, []request{nil}, map[uint64]outcome{1: missing, 2: malform}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			line.ask(tt.first, tt.more...)
			if got := outcomes(t, line.answer()); !maps.Equal(got, tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
	close(line.requests)
	if err := line.end(); err != nil {
		t.Errorf("the stream ends with %v", err)
	}
	for name, want := range map[string]float64{"countersign_decisions_total": 10, "countersign_undecided_total": 6} {
		if got := sum(t, w.registry, name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

// sum returns the sum of a counter over its labels.
func sum(t testing.TB, registry *prometheus.Registry, name string) (total float64) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			total += m.GetCounter().GetValue()
		}
	}
	return total
}

// B25: a request that waits for its min_revision blocks no other, and gets its answer when the change
// arrives.
func TestB25_StreamGoesOnWhileOneWaits(t *testing.T) {
	w := startWorld(t)
	line := talk(t, NewBulk(w.service, testServer{}))
	next := w.ahead(0)
	line.ask(next, w.request(), w.ahead(1000), w.request())
	if got := outcomes(t, line.answer()); !maps.Equal(got, map[uint64]outcome{2: valid, 4: valid}) {
		t.Errorf("at once: %v", got)
	}
	for range 100 {
		line.ask(w.request())
		if got := outcomes(t, line.answer()); got[1] != valid {
			t.Fatalf("meanwhile: %v", got)
		}
	}
	// The next revision is another change, so the change that next asks for is lost.
	w.store.Commit(w.app, storetest.AddToken("next"))
	if got := outcomes(t, line.answer()); !maps.Equal(got, map[uint64]outcome{1: {failure: apierr.RevisionLost}}) {
		t.Errorf("after the change: %v", got)
	}
	// The stream ends after the last answer.
	close(line.requests)
	if got := outcomes(t, line.answer()); !maps.Equal(got, map[uint64]outcome{3: notThere}) {
		t.Errorf("in the end: %v", got)
	}
	if err := line.end(); err != nil {
		t.Error(err)
	}
}

// Requests beyond the bound do not wait but fail.
func TestB25_StreamBoundsWhatWaits(t *testing.T) {
	w := startWorld(t)
	bulk := NewBulk(w.service, testServer{})
	bulk.service.waiting = make(chan struct{}, 2)
	one, other := talk(t, bulk), talk(t, bulk)
	one.ask(w.ahead(1000), w.request())
	one.answer()
	other.ask(w.ahead(1000), w.ahead(1000), w.request())
	if got := outcomes(t, other.answer()); !maps.Equal(got, map[uint64]outcome{2: tooMany, 3: valid}) {
		t.Errorf("%v", got)
	}
	// A client that goes away releases its slots.
	one.hangUp()
	one.end()
	third := talk(t, bulk)
	third.ask(w.ahead(1000), w.request())
	if got := outcomes(t, third.answer()); !maps.Equal(got, map[uint64]outcome{2: valid}) {
		t.Errorf("%v", got)
	}
}

// A client that does not read its answers blocks nobody: a waiting request releases its slot before its
// answer is sent.
func TestB25_AnswersThatAreNotReadHoldNoPlace(t *testing.T) {
	w := startWorld(t)
	bulk := NewBulk(w.service, testServer{})
	bulk.service.waiting = make(chan struct{}, 1)
	unread, other := talk(t, bulk), talk(t, bulk)
	unread.ask(w.ahead(0), w.request())
	unread.answer()
	unread.ask(w.request()) // its answer is never read, so the stream cannot send the next answer
	w.store.Commit(w.app, storetest.AddToken("next"))
	check.Eventually(t, "a free place", func() error {
		if len(bulk.service.waiting) > 0 {
			return errors.New("it is still taken")
		}
		return nil
	})
	other.ask(w.ahead(1000), w.request())
	if got := outcomes(t, other.answer()); !maps.Equal(got, map[uint64]outcome{2: valid}) {
		t.Errorf("%v", got)
	}
}

// One stream cannot take more than its share of the slots.
func TestB25_StreamHasItsShareOfWhatWaits(t *testing.T) {
	w := startWorld(t)
	bulk := NewBulk(w.service, testServer{})
	greedy, other := talk(t, bulk), talk(t, bulk)
	far := make([]request, maxWaitingOfOne+1)
	for i := range far {
		far[i] = w.ahead(1000)
	}
	greedy.ask(w.request(), far...)
	if got := outcomes(t, greedy.answer()); len(got) != 2 || got[1] != valid || got[maxWaitingOfOne+2] != tooMany {
		t.Errorf("%v", got)
	}
	other.ask(w.ahead(1000), w.request())
	if got := outcomes(t, other.answer()); !maps.Equal(got, map[uint64]outcome{2: valid}) {
		t.Errorf("%v", got)
	}
	greedy.hangUp()
	greedy.end()
	other.hangUp()
	other.end()
}

func TestStreamRefusesTooManyInOneMessage(t *testing.T) {
	s, _ := newService(t)
	line := talk(t, NewBulk(s, testServer{}))
	line.ask(nil, make([]request, MaxRequests-1)...)
	if got := outcomes(t, line.answer()); len(got) != MaxRequests {
		t.Errorf("%d answers", len(got))
	}
	line.ask(nil, make([]request, MaxRequests)...)
	select {
	case m := <-line.answers:
		t.Errorf("a message of %d requests has %d answers", MaxRequests+1, len(outcomes(t, m)))
	case err := <-line.ended:
		if status.Code(err) != codes.ResourceExhausted || apierr.ReasonOf(err) != "TOO_MANY_REQUESTS" {
			t.Errorf("%v", err)
		}
	case <-time.After(patience):
		t.Error("the stream neither answers nor ends")
	}
}

// A draining server ends its streams, idle or not, after it has answered the requests that it has received.
func TestStreamEndsWhenTheServerDrains(t *testing.T) {
	w := startWorld(t)
	server := testServer{make(chan struct{})}
	bulk := NewBulk(w.service, server)
	idle, waiting := talk(t, bulk), talk(t, bulk)
	waiting.ask(w.ahead(0), w.request())
	waiting.answer()
	close(server.draining)
	if err := idle.end(); apierr.ReasonOf(err) != apierr.ShuttingDown || status.Code(err) != codes.Unavailable {
		t.Errorf("idle: %v", err)
	}
	select {
	case err := <-waiting.ended:
		t.Errorf("ended with %v before its answer", err)
	case <-time.After(50 * time.Millisecond):
	}
	w.store.Commit(w.app, storetest.AddToken("next"))
	if got := outcomes(t, waiting.answer()); len(got) != 1 {
		t.Errorf("%v", got)
	}
	if err := waiting.end(); apierr.ReasonOf(err) != apierr.ShuttingDown {
		t.Errorf("waiting: %v", err)
	}
}

// Messages that arrive later are not answered, because the stream must not be used after its handler.
func TestStreamAnswersNothingAfterItsEnd(t *testing.T) {
	s := newStream(t.Context(), NewBulk(&Service{}, testServer{}), nil)
	s.end()
	if err := s.answer(&wire.Requests{List: make([]wire.Request, 1)}); err != nil {
		t.Error(err)
	}
}

// A client that goes away while its requests wait leaves nothing behind.
func TestStreamEndsWithItsClient(t *testing.T) {
	w := startWorld(t)
	line := talk(t, NewBulk(w.service, testServer{}))
	line.ask(w.ahead(0), w.request())
	line.answer()
	began := time.Now()
	line.hangUp()
	if err := line.end(); err == nil {
		t.Error("the stream ended without an error")
	}
	check.Within(t, "the end of the stream", time.Since(began), 2*time.Second, 20*time.Second)
}

// A panic reaches the handler, where it is caught, with its original stack.
func TestStreamPanicsInItsHandler(t *testing.T) {
	line := talk(t, NewBulk(&Service{counters: nil, validator: nil}, testServer{}))
	line.ask(&countersignv1.AuthorizeRequest{AppId: "app", Scope: events})
	var p panicked
	if err := line.end(); !errors.As(err, &p) || !strings.Contains(p.value.(string), "stream.go") {
		t.Errorf("%v", err)
	}
}

// Reading, deciding and answering the requests of a stream allocate nothing.
func TestStreamDecidesWithoutAllocating(t *testing.T) {
	w := startWorld(t)
	s := newStream(t.Context(), NewBulk(w.service, testServer{}), discard{})
	more := make([]request, 49)
	for i := range more {
		more[i] = w.request()
		if i%3 == 0 {
			more[i].Token = ""
		}
	}
	data := encode(&countersignv1.AuthorizeStreamRequest{Sequence: 1, Request: w.request(), More: more})
	message := new(wire.Requests)
	receive := func() {
		if err := codec.Unmarshal(data, message); err != nil {
			t.Fatal(err)
		}
	}
	least := 1.0
	for range 20 { // the validator's background work allocates now and then
		least = min(least, testing.AllocsPerRun(20, func() {
			receive()
			if err := s.answer(message); err != nil {
				t.Fatal(err)
			}
		}))
	}
	if least != 0 {
		t.Errorf("%v allocations for 50 requests", least)
	}
	if testutil.CollectAndCount(w.registry, "countersign_decisions_total") == 0 ||
		sum(t, w.registry, "countersign_decisions_total") < 1000 {
		t.Error("not counted")
	}
}

// discard is a stream that drops its answers.
type discard struct{ grpc.ServerStream }

func (discard) SendMsg(any) error { return nil }
