package tools

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/snapshot"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// partitions is the number of partitions of the tests' stores.
const partitions = 4

var quiet = slog.New(slog.DiscardHandler)

// system is a Redis with a store in it, and an authority's store over it.
type system struct {
	t      testing.TB
	redis  *redistest.Server
	client *redisfeed.Client
	ring   *keyring.Ring
	codec  *record.Codec
	tools  *Tools
	store  *store.Store
}

func clientOf(t testing.TB, url string) *redisfeed.Client {
	t.Helper()
	client := check.Must(redisfeed.Open(url, redisfeed.Options{}))(t)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// newSystem starts a Redis with a store that has some changes.
func newSystem(t testing.TB) *system {
	t.Helper()
	s := &system{t: t, redis: redistest.Start(t), ring: keyring.Generate()}
	s.fill(s.redis.URL(), s.redis.URL())
	return s
}

// fill makes the store. The tools use the operator's URL.
func (s *system) fill(url, operatorURL string) {
	t := s.t
	t.Helper()
	s.client = clientOf(t, url)
	operator := clientOf(t, operatorURL)
	meta, _, err := store.Init(t.Context(), operator, s.ring, partitions)
	if err != nil {
		t.Fatal(err)
	}
	s.codec, s.tools = record.NewCodec(s.ring, meta), New(operator, s.ring)
	options := store.Options{}
	r, _ := s.follow()
	s.store = store.New(store.Over(s.client, partitions, options), r, options, quiet)
	for i := range partitions {
		for n := range 3 {
			s.add(s.app(i, n), "first")
			s.add(s.app(i, n), "second")
		}
	}
}

// follow runs a replica until the returned function is called, or the test ends.
func (s *system) follow() (r *replica.Replica, stop func()) {
	s.t.Helper()
	r = replica.New(redisfeed.New(s.client, partitions), s.codec, quiet)
	r.Heals() // as that of an authority, it follows what an operator has begun at once
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx); close(ended) }()
	stop = func() {
		cancel()
		if err := <-ended; err != nil {
			s.t.Errorf("replica: %v", err)
		}
	}
	s.t.Cleanup(stop)
	waiting, done := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer done()
	if err := r.WaitLoaded(waiting); err != nil {
		s.t.Fatalf("the replica was not loaded: %v", err)
	}
	return r, stop
}

// app returns the id of a partition's nth app.
func (s *system) app(partition, n int) string {
	for i := 0; ; i++ {
		id := fmt.Sprintf("app-%d", i)
		if s.codec.PartitionOf(id) != partition {
			continue
		}
		if n == 0 {
			return id
		}
		n--
	}
}

// change makes one change of an app.
func (s *system) change(appID, method string, change func(*record.Document)) error {
	_, err := s.store.Update(s.t.Context(), store.Call{
		AppID: appID, Request: store.Request{Identity: "admin", Method: method, ID: fmt.Sprint(time.Now().UnixNano())},
		Change: func(before *record.Document) (*record.Document, error) {
			after := &record.Document{}
			if before != nil {
				*after = *before
				after.Tokens = append([]record.Token(nil), before.Tokens...)
			}
			change(after)
			return after, nil
		},
		Event: &countersignv1.AuditEvent{Method: method},
		Answer: func(_ *record.Document, at record.Position) proto.Message {
			return &countersignv1.RevokeTokenResponse{ConsistencyToken: record.EncodePosition(at)}
		},
	})
	return err
}

// add creates a token. Its id is made of the app and a name; its secret is its id.
func (s *system) add(appID, name string) {
	s.t.Helper()
	if err := s.change(appID, "Add", addToken(appID, name)); err != nil {
		s.t.Fatal(err)
	}
}

func addToken(appID, name string) func(*record.Document) {
	return func(d *record.Document) {
		id := appID + "/" + name
		d.Tokens = append(d.Tokens, record.Token{
			Token: policy.Token{ID: id, Digest: secret.DigestOf(id), State: policy.Active, Imported: true}, Name: "name of " + name,
		})
	}
}

// revoke revokes a token.
func (s *system) revoke(appID, name string) {
	s.t.Helper()
	err := s.change(appID, "Revoke", func(d *record.Document) {
		for i := range d.Tokens {
			if d.Tokens[i].ID == appID+"/"+name {
				d.Tokens[i].State = policy.Revoked
			}
		}
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// state returns the state of a token in a replica; 0 when it is unknown.
func state(r *replica.Replica, appID, name string) policy.State {
	view := r.Table().Find(appID)
	if view.Entry() == nil || view.Entry().Policy == nil {
		return 0
	}
	if t := view.Entry().Policy.FindDigest(secret.DigestOf(appID + "/" + name)); t != nil {
		return t.State
	}
	return 0
}

// wantClean checks that everything verifies.
func (s *system) wantClean() Verified {
	s.t.Helper()
	v := check.Must(s.tools.Verify(s.t.Context()))(s.t)
	if len(v.Findings) > 0 {
		s.t.Errorf("found %v", v.Findings)
	}
	return v
}

func (s *system) flush() {
	s.t.Helper()
	if err := s.client.FlushAll(s.t.Context()).Err(); err != nil {
		s.t.Fatal(err)
	}
}

// backup writes a backup and returns its path.
func (s *system) backup() string {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), "store.backup")
	check.Must(s.tools.Backup(s.t.Context(), path, false))(s.t)
	return path
}

// report writes the record of a validator with some cursors.
func (s *system) report(name string, cursors map[int]record.Cursor) {
	s.t.Helper()
	raw := check.Must(s.codec.SealValidator(&record.Validator{ID: name, Cursors: cursors, Reported: time.Now()}))(s.t)
	if err := store.NewFleet(s.client).Write(s.t.Context(), map[string][]byte{name: raw}); err != nil {
		s.t.Fatal(err)
	}
}

// heal heals every partition with nothing, so that the store accepts changes.
func (s *system) heal() {
	s.t.Helper()
	for i := range partitions {
		_, err := s.store.Heal(s.t.Context(), i, 0, nil, nil, nil)
		if begun := (*store.NotAwaitedError)(nil); errors.As(err, &begun) {
			_, err = s.store.Heal(s.t.Context(), i, begun.Epoch, nil, nil, nil)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

// has reports whether a finding names a place and contains a text.
func has(findings []Finding, where, what string) bool {
	for _, f := range findings {
		if strings.HasPrefix(f.Where, where) && strings.Contains(f.What, what) {
			return true
		}
	}
	return false
}

// crossed waits until a replica is in an epoch everywhere.
func crossed(t testing.TB, r *replica.Replica, epoch uint64) {
	t.Helper()
	check.Eventually(t, "crossing", func() error {
		for i, at := range r.Cursors() {
			if at.Epoch != epoch || r.Age(i, time.Now()) > time.Second {
				return fmt.Errorf("partition %d is at %s, %v old", i, at, r.Age(i, time.Now()))
			}
		}
		return nil
	})
}

// replicaFileOf writes a snapshot as a validator does.
func (s *system) replicaFileOf(r *replica.Replica) string {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), "policies.snapshot")
	file := check.Must(snapshot.Create(path, s.ring, s.codec.Meta(), snapshot.OfReplica))(s.t)
	for i := range partitions {
		c, loaded := r.Export(i)
		if !loaded {
			s.t.Fatal("not loaded")
		}
		if err := file.Replica(c); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := file.Commit(); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// reopen opens the store again, as a restarted authority does.
func (s *system) reopen() {
	s.t.Helper()
	r, _ := s.follow()
	s.store = store.New(store.Over(s.client, partitions, store.Options{}), r, store.Options{}, quiet)
}

// lines is a log that may be read while it is written.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
