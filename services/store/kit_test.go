package store_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// partitions is the number of partitions of the tests' stores. It is small, so that apps share partitions.
const partitions = 4

// system is a Redis with a store in it.
type system struct {
	t     testing.TB
	redis *redistest.Server
	// client is the test's own connection to Redis.
	client *redisfeed.Client
	ring   *keyring.Ring
	meta   record.Meta
	codec  *record.Codec
}

func newSystem(t testing.TB, redisArgs ...string) *system {
	t.Helper()
	s := &system{t: t, redis: redistest.Start(t, redisArgs...), ring: keyring.Generate()}
	s.client = redisClient(t, s.redis.URL())
	s.init()
	return s
}

func (s *system) init() {
	s.t.Helper()
	meta, created, err := store.Init(s.t.Context(), s.client, s.ring, partitions)
	if err != nil || !created {
		s.t.Fatalf("Init: created %t, %v", created, err)
	}
	s.meta, s.codec = meta, record.NewCodec(s.ring, meta)
}

// keysOf names the keys of an app's partition.
func (s *system) keysOf(appID string) record.Keys { return record.KeysOf(s.codec.PartitionOf(appID)) }

// open opens the store as an authority does. The URL may be the URL of a proxy.
func (s *system) open(url string) *store.Store {
	s.t.Helper()
	client := redisClient(s.t, url)
	return s.openWith(client, s.replica(client))
}

func (s *system) openWith(client *redisfeed.Client, r *replica.Replica) *store.Store {
	s.t.Helper()
	return store.New(store.Over(client, s.meta.Partitions, store.Options{}), r, store.Options{}, quiet)
}

// quiet discards log lines.
var quiet = slog.New(slog.DiscardHandler)

// replica follows the store until the test ends.
func (s *system) replica(client *redisfeed.Client) *replica.Replica {
	s.t.Helper()
	r := replica.New(redisfeed.New(client, s.meta.Partitions), s.codec, quiet)
	r.Heals()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	s.t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			s.t.Errorf("replica: %v", err)
		}
	})
	waiting, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	if err := r.WaitLoaded(waiting); err != nil {
		s.t.Fatalf("the replica was not loaded: %v", err)
	}
	return r
}

// call is a change of an app with a name that the audit trail shows.
func call(appID, name string, change func(before *record.Document) (*record.Document, error)) store.Call {
	return store.Call{
		AppID:  appID,
		Change: change,
		Event:  &countersignv1.AuditEvent{Method: name},
		Answer: func(_ *record.Document, at record.Position) proto.Message {
			return &countersignv1.RevokeTokenResponse{ConsistencyToken: record.EncodePosition(at)}
		},
	}
}

// edit returns a copy of a document that may be changed.
func edit(before *record.Document) *record.Document {
	if before == nil {
		return &record.Document{}
	}
	after := *before
	after.Tokens = append([]record.Token(nil), before.Tokens...)
	return &after
}

// add creates a token with its id as its name.
func add(id string) func(*record.Document) (*record.Document, error) {
	return func(before *record.Document) (*record.Document, error) {
		after := edit(before)
		after.Tokens = append(after.Tokens, record.Token{
			Token: policy.Token{ID: id, Digest: secret.DigestOf(id), State: policy.Active}, Name: id,
		})
		return after, nil
	}
}

// note sets the note of an app's first token, which must exist.
func note(text string) func(*record.Document) (*record.Document, error) {
	return func(before *record.Document) (*record.Document, error) {
		after := edit(before)
		after.Tokens[0].Note = text
		return after, nil
	}
}

// revoke revokes an app's first token.
func revoke(before *record.Document) (*record.Document, error) {
	after := edit(before)
	after.Tokens[0].State = policy.Revoked
	return after, nil
}

// update makes a change that must succeed.
func update(t testing.TB, s *store.Store, c store.Call) store.Result {
	t.Helper()
	result, err := s.Update(t.Context(), c)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return result
}

// wantUnavailable checks that an error is UNAVAILABLE with a reason.
func wantUnavailable(t testing.TB, err error, reason string) {
	t.Helper()
	var e *apierr.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want UNAVAILABLE %s", err, reason)
	}
	if e.Code() != codes.Unavailable || e.Reason() != reason {
		t.Errorf("got %s %s (%v), want UNAVAILABLE %s", e.Code(), e.Reason(), err, reason)
	}
}

// contents returns the DUMP of every key in Redis, by key.
func contents(t testing.TB, client *redisfeed.Client) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, key := range check.Must(client.Keys(t.Context(), "*").Result())(t) {
		all[key] = check.Must(client.Dump(t.Context(), key).Result())(t)
	}
	return all
}

// wantSame checks that Redis still has the contents held.
func wantSame(t testing.TB, client *redisfeed.Client, held map[string]string) {
	t.Helper()
	now := contents(t, client)
	for key := range held {
		if now[key] != held[key] {
			t.Errorf("the value of %s was changed or removed, want it unchanged", key)
		}
	}
	for key := range now {
		if _, was := held[key]; !was {
			t.Errorf("%s is a new key, want none", key)
		}
	}
}

// appIn returns an app of a partition.
func (s *system) appIn(partition int) string {
	for i := 0; ; i++ {
		if id := fmt.Sprintf("app-%d", i); s.codec.PartitionOf(id) == partition {
			return id
		}
	}
}
