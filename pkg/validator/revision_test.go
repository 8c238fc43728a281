package validator_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/pkg/testkit/storetest"
	"github.com/countersign/countersign/pkg/validator"
)

// deaf returns the URL of a Redis account that may read, but gets no hints about changes.
func (k *kit) deaf(t *testing.T) string {
	t.Helper()
	if err := k.admin.Do(t.Context(), "ACL", "SETUSER", "deaf", "reset", "on", ">password", "%R~cs:*", "resetchannels",
		"-@all", "+get", "+hscan", "+xrange", "+ping", "+subscribe").Err(); err != nil {
		t.Fatal(err)
	}
	return redistest.URL(k.server.Address(), "deaf", "password")
}

// TestB25_AnswersAreNeverOlderThanMinRevision: an answer is never older than MinRevision, with and without
// hints, and under concurrency.
func TestB25_AnswersAreNeverOlderThanMinRevision(t *testing.T) {
	k := start(t)
	k.store.CopyTo(k.admin)
	for name, url := range map[string]string{"with hints": k.server.URL(), "without hints": k.deaf(t)} {
		t.Run(name, func(t *testing.T) {
			v := k.ready(t, url)
			for i := range 60 {
				state := []policy.State{policy.Disabled, policy.Active}[i%2]
				made := k.store.Commit(k.app, storetest.SetState("tok_good", state))
				request := k.ask()
				request.MinRevision = record.EncodePosition(k.store.Position(made))
				var askers sync.WaitGroup
				for range 4 {
					askers.Go(func() {
						answer, err := v.Authorize(t.Context(), request)
						if err != nil || answer.Revision < made.Cursor.Revision || answer.Allow != (state == policy.Active) {
							t.Errorf("change %d to state %d: %+v, %v", i, state, answer, err)
						}
					})
				}
				askers.Wait()
			}
		})
	}
}

func TestB25_TokensOfOthersAreInvalid(t *testing.T) {
	k := start(t)
	k.store.CopyTo(k.admin)
	v := k.ready(t, k.server.URL())
	at := k.store.Head(3).Cursor
	for name, position := range map[string]record.Position{
		"another partition":           {StoreID: k.store.Meta().StoreID, Partition: 4, Cursor: k.store.Head(4).Cursor},
		"a partition that is not any": {StoreID: k.store.Meta().StoreID, Partition: 200, Cursor: at},
		"another store":               {StoreID: "another", Partition: 3, Cursor: at},
		"no store":                    {Partition: 3, Cursor: at},
	} {
		request := k.ask()
		request.MinRevision = record.EncodePosition(position)
		began := time.Now()
		_, err := v.Authorize(t.Context(), request)
		mustRefuse(t, err, codes.InvalidArgument, "min_revision")
		if took := time.Since(began); took > time.Second {
			t.Errorf("%s: after %v", name, took)
		}
	}
	// A malformed token is rejected without a cause, since causes are logged and anyone can send such
	// tokens at any rate.
	garbled := k.ask()
	garbled.MinRevision = "!"
	if _, err := v.Authorize(t.Context(), garbled); errors.Unwrap(err) != nil {
		t.Errorf("error %v has a cause, want none", err)
	} else {
		mustRefuse(t, err, codes.InvalidArgument, "min_revision")
	}
	// A token of another app of the same partition is valid too.
	made := k.store.Commit(k.store.App(3, 1), storetest.AddToken("a"))
	request := k.ask()
	request.MinRevision = record.EncodePosition(k.store.Position(made))
	if answer, err := v.Authorize(t.Context(), request); err != nil || answer.Revision < made.Cursor.Revision {
		t.Errorf("another app of the partition: got %+v, error %v", answer, err)
	}
}

func TestB25_RevisionThatDoesNotComeIsUnavailable(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.store.CopyTo(k.admin)
	v := k.ready(t, k.server.URL())
	at := k.store.Head(3).Cursor
	ahead := k.ask()
	ahead.MinRevision = record.EncodePosition(record.Position{
		StoreID:   k.store.Meta().StoreID,
		Partition: 3,
		Cursor:    record.Cursor{Epoch: 1, Revision: at.Revision + 10, Tag: record.Tag{1}},
	})
	for _, tt := range []struct{ deadline, least, most time.Duration }{
		{300 * time.Millisecond, 300 * time.Millisecond, 2 * time.Second},
		{time.Minute, validator.MaxCatchUp, validator.MaxCatchUp + 3*time.Second},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), tt.deadline)
		began := time.Now()
		_, err := v.Authorize(ctx, ahead)
		mustRefuse(t, err, codes.Unavailable, apierr.RevisionNotReached)
		if took := time.Since(began); took < tt.least || took > tt.most {
			t.Errorf("deadline %v: after %v", tt.deadline, took)
		}
		cancel()
	}

	lost := k.ask()
	lost.MinRevision = record.EncodePosition(record.Position{
		StoreID: k.store.Meta().StoreID, Partition: 3, Cursor: record.Cursor{Epoch: 1, Revision: at.Revision, Tag: record.Tag{1}},
	})
	_, err := v.Authorize(t.Context(), lost)
	mustRefuse(t, err, codes.Unavailable, apierr.RevisionLost)

	// Requests without a MinRevision are answered at once.
	if answer, err := v.Authorize(t.Context(), k.ask()); err != nil || !answer.Allow {
		t.Errorf("Authorize: got %+v, error %v", answer, err)
	}
}

// TestB25_WaitingForARevisionDoesNotHoldUpOthers: a request that waits for its revision blocks no other
// request.
func TestB25_WaitingForARevisionDoesNotHoldUpOthers(t *testing.T) {
	k := start(t)
	k.store.CopyTo(k.admin)
	v := k.ready(t, k.server.URL())
	ctx, cancel := context.WithCancel(t.Context())
	ahead := k.ask()
	ahead.MinRevision = record.EncodePosition(record.Position{
		StoreID: k.store.Meta().StoreID, Partition: 3, Cursor: record.Cursor{Epoch: 7, Revision: 1, Tag: record.Tag{1}},
	})
	var waiters sync.WaitGroup
	for range 50 {
		waiters.Go(func() {
			_, err := v.Authorize(ctx, ahead)
			mustRefuse(t, err, codes.Unavailable, apierr.RevisionNotReached)
		})
	}
	for i := range 200 {
		if answer, err := v.Authorize(t.Context(), k.ask()); err != nil || !answer.Allow {
			t.Fatalf("Authorize: got %+v, error %v", answer, err)
		}
		if i%20 == 0 {
			made := k.store.Commit(k.app, storetest.AddToken(fmt.Sprint(i)))
			request := k.ask()
			request.MinRevision = record.EncodePosition(k.store.Position(made))
			if answer, err := v.Authorize(t.Context(), request); err != nil || answer.Revision < made.Cursor.Revision {
				t.Fatalf("Authorize: got %+v, error %v", answer, err)
			}
		}
	}
	cancel()
	waiters.Wait()
}
