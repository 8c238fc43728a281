package notify_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/timestamppb"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/notify"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var secret = "whsec_" + base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))

// memory is an outbox's store in memory.
type memory struct {
	mu      sync.Mutex
	entries map[string]string
	writes  int
	// failing says that nothing can be written.
	failing bool
}

func (m *memory) write(ctx context.Context) error {
	m.writes++
	if m.failing {
		return errors.New("the store is full")
	}
	return ctx.Err()
}

func (m *memory) AddNotices(ctx context.Context, entries map[string]string) (added []string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(entries) == 0 {
		return nil, nil
	}
	if err := m.write(ctx); err != nil {
		return nil, err
	}
	for id, raw := range entries {
		if _, there := m.entries[id]; !there {
			m.entries[id] = raw
			added = append(added, id)
		}
	}
	return added, nil
}

func (m *memory) Notices(context.Context) (map[string]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.entries), nil
}

func (m *memory) PutNotice(ctx context.Context, id, raw string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.write(ctx); err != nil {
		return err
	}
	m.entries[id] = raw
	return nil
}

func (m *memory) ReplaceNotices(ctx context.Context, from, to map[string]string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(from) == 0 {
		return nil
	}
	if err := m.write(ctx); err != nil {
		return err
	}
	for id, raw := range from {
		if was, there := m.entries[id]; !there || was != raw {
			continue
		}
		if to[id] == "" {
			delete(m.entries, id)
		} else {
			m.entries[id] = to[id]
		}
	}
	return nil
}

// receiver is a webhook's receiver that verifies every delivery with the library.
type receiver struct {
	t      *testing.T
	server *httptest.Server
	mu     sync.Mutex
	down   bool
	tries  int
	got    map[string][]string // the bodies by id
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{t: t, got: map[string][]string{}}
	r.server = httptest.NewServer(r)
	t.Cleanup(r.server.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	body, err := io.ReadAll(request.Body)
	verifier, bad := standardwebhooks.NewWebhook(secret)
	if err != nil || bad != nil {
		r.t.Error(err, bad)
	}
	if err := verifier.Verify(body, request.Header); err != nil {
		r.t.Errorf("the signature does not verify: %v", err)
	}
	r.tries++
	if r.down {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	id := request.Header.Get("webhook-id")
	r.got[id] = append(r.got[id], string(body))
}

func (r *receiver) setDown(down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = down
}

func newOutbox(t *testing.T, store notify.Store, url string) *notify.Outbox {
	t.Helper()
	hook, err := notify.NewWebhook(url, secret)
	if err != nil {
		t.Fatal(err)
	}
	return notify.NewOutbox(store, hook, notify.NewMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler))
}

func notice(id string) *countersignv1.Notice {
	return &countersignv1.Notice{
		NoticeId: id, Kind: countersignv1.NoticeKind_NOTICE_KIND_TOKEN_EXPIRES, AppId: "shop", TokenId: "tok_a",
		Text: "do something", DueTime: timestamppb.New(time.UnixMilli(1_800_000_000_000)),
	}
}

func work(t *testing.T, o *notify.Outbox, now time.Time, found ...*countersignv1.Notice) {
	t.Helper()
	if err := o.Work(t.Context(), found, now); err != nil {
		t.Fatal(err)
	}
}

// TestB29_EachNoticeOnce: the receiver is down for an hour, and the authority is restarted meanwhile. Each
// notice arrives once by its id, and none is lost.
func TestB29_EachNoticeOnce(t *testing.T) {
	r, store := newReceiver(t), &memory{entries: map[string]string{}}
	outbox := newOutbox(t, store, r.server.URL)
	r.setDown(true)
	began := time.Now()
	found := []*countersignv1.Notice{notice("n1"), notice("n2")}
	for at := time.Duration(0); at < 3*time.Hour; at += 30 * time.Second {
		switch at {
		case 10 * time.Minute:
			found = append(found, notice("n3"))
		case 20 * time.Minute:
			outbox = newOutbox(t, store, r.server.URL)
		case time.Hour:
			r.setDown(false)
		}
		work(t, outbox, began.Add(at), found...)
	}
	for _, id := range []string{"n1", "n2", "n3"} {
		if len(r.got[id]) != 1 {
			t.Errorf("%s arrived %d times", id, len(r.got[id]))
		}
	}
	if len(r.got) != 3 {
		t.Errorf("got %v", r.got)
	}
	// Each notice is tried after 0.5, 1.5, 3.5, 7.5, 15.5, 31.5 and 63.5 minutes, then hourly.
	if r.tries > 3*9 {
		t.Errorf("%d tries in three hours", r.tries)
	}
	var body struct {
		Type      string
		Timestamp time.Time
		Data      map[string]any
	}
	if err := json.Unmarshal([]byte(r.got["n1"][0]), &body); err != nil {
		t.Fatal(err)
	}
	if body.Type != "countersign.notice.token_expires" || body.Data["notice_id"] != "n1" || body.Data["app_id"] != "shop" ||
		body.Data["kind"] != "TOKEN_EXPIRES" || body.Data["token_id"] != "tok_a" || body.Data["text"] != "do something" ||
		body.Data["due_time"] == nil || body.Timestamp.Sub(began).Abs() > time.Second {
		t.Errorf("got %s", r.got["n1"][0])
	}
}

// TestB29_ForgottenInTime: a notice is tried for 3 days, and remembered for 36 days after it was last found.
// Then the same notice is a new one.
func TestB29_ForgottenInTime(t *testing.T) {
	r, store := newReceiver(t), &memory{entries: map[string]string{}}
	outbox := newOutbox(t, store, r.server.URL)
	began := time.Now()
	const day = 24 * time.Hour
	work(t, outbox, began, notice("delivered"))
	r.setDown(true)
	work(t, outbox, began, notice("given up"))
	for at := time.Hour; at <= 74*time.Hour; at += time.Hour {
		work(t, outbox, began.Add(at))
	}
	tries := r.tries
	r.setDown(false)
	work(t, outbox, began.Add(35*day), notice("delivered"))
	work(t, outbox, began.Add(36*day), notice("given up"))
	work(t, outbox, began.Add((35+36)*day))
	if len(r.got["delivered"]) != 1 || len(r.got["given up"]) != 0 || r.tries != tries || len(store.entries) != 2 {
		t.Errorf("after 36 more days: %v, %d entries, %d tries more", r.got, len(store.entries), r.tries-tries)
	}
	work(t, outbox, began.Add((36+38)*day))
	if len(store.entries) != 0 {
		t.Errorf("after 38 more days: %v", store.entries)
	}
	work(t, outbox, began.Add((36+38)*day), notice("delivered"))
	if len(r.got["delivered"]) != 2 {
		t.Errorf("a forgotten notice is not new: %v", r.got)
	}
}

// TestB29_WithoutAWebhook: notices are remembered and forgotten, and nothing is sent.
func TestB29_WithoutAWebhook(t *testing.T) {
	store := &memory{entries: map[string]string{}}
	outbox := notify.NewOutbox(store, nil, notify.NewMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler))
	began := time.Now()
	for at := time.Duration(0); at < 41*24*time.Hour; at += 12 * time.Hour {
		work(t, outbox, began.Add(at), func() []*countersignv1.Notice {
			if at == 0 {
				return []*countersignv1.Notice{notice("n1")}
			}
			return nil
		}()...)
		if at == 24*time.Hour && len(store.entries) != 1 {
			t.Errorf("after a day: %v", store.entries)
		}
	}
	if len(store.entries) != 0 {
		t.Errorf("after 41 days: %v", store.entries)
	}
}

// TestDamagedEntriesAreDropped: an entry that nobody can read does not stop the others, and its notice is
// sent when it still holds.
func TestDamagedEntriesAreDropped(t *testing.T) {
	for _, damaged := range []string{
		"", "{", "{}", "null", `{"state":"sent","done_millis":1}`, `{"state":"pending","created_millis":1}`,
	} {
		r, store := newReceiver(t), &memory{entries: map[string]string{"broken": damaged, "gone": damaged}}
		work(t, newOutbox(t, store, r.server.URL), time.Now(), notice("n1"), notice("broken"))
		_, there := store.entries["gone"]
		if len(r.got["n1"]) != 1 || len(r.got["broken"]) != 1 || len(r.got) != 2 || there {
			t.Errorf("%q: got %v, left %v", damaged, r.got, store.entries)
		}
	}
}

// TestWebhookURLs: only https leaves the machine, and no error repeats a secret.
func TestWebhookURLs(t *testing.T) {
	for url, good := range map[string]bool{
		"https://example.com/hook": true, "http://127.0.0.1:80/hook": true, "http://[::1]/hook": true, "http://localhost/": true,
		"http://example.com/hook": false, "ftp://example.com/": false, "example.com/hook": false, "": false, "https://": false,
		"https://user:hidden@example.com/": false, "http://127.0.0.1.example.com/": false, ":": false,
	} {
		_, err := notify.NewWebhook(url, secret)
		if (err == nil) != good {
			t.Errorf("%s: %v", url, err)
		}
		if err != nil && strings.Contains(err.Error(), "hidden") {
			t.Errorf("the error shows a password: %v", err)
		}
	}
	for _, bad := range []string{"", "whsec_", "whsec_c2hvcnQ=", strings.TrimPrefix(secret, "whsec_"), "whsec_!" + secret[7:]} {
		_, err := notify.NewWebhook("https://example.com/", bad)
		if err == nil || len(bad) > 8 && strings.Contains(err.Error(), bad[6:]) {
			t.Errorf("secret %q: %v", bad, err)
		}
	}
}

// TestWebhookFollowsNoRedirect: a redirect is a failure, and its target gets nothing.
func TestWebhookFollowsNoRedirect(t *testing.T) {
	r := newReceiver(t)
	from := httptest.NewServer(http.RedirectHandler(r.server.URL, http.StatusTemporaryRedirect))
	t.Cleanup(from.Close)
	hook, err := notify.NewWebhook(from.URL, secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := hook.Send(t.Context(), "n1", []byte("{}"), time.Now()); err == nil || !strings.Contains(err.Error(), "307") {
		t.Errorf("got %v", err)
	}
	if r.tries != 0 {
		t.Error("the target of the redirect was called")
	}
	from.Close()
	if err := hook.Send(t.Context(), "n1", []byte("{}"), time.Now()); err == nil || strings.Contains(err.Error(), from.URL) {
		t.Errorf("the error shows the URL: %v", err)
	}
}
