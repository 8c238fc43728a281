package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// Request names a call that may be repeated (AIP-155). The zero value is one that may not.
type Request struct {
	Identity, Method, ID string
	// Digest is that of the call's content without the id.
	Digest []byte
}

// Call is a change of one app.
type Call struct {
	AppID   string
	Request Request
	// Urgent lets the change through when Redis is out of memory: for revoking and disabling.
	Urgent bool
	// Change returns the document after the call; before is nil for an app without one, and must not be changed.
	// It may be called several times, must have no side effect, and its error ends the call. To change nothing, it
	// returns nil. The store sets the cursor and which tokens were touched.
	Change func(before *record.Document) (after *record.Document, err error)
	// Describe returns the audit event of the change and what is answered to a repetition.
	Describe func(before, after *record.Document, at record.Position) (*countersignv1.AuditEvent, proto.Message)
}

// Result is what came of a call.
type Result struct {
	// Before and After are the documents, equal when nothing was changed.
	Before, After *record.Document
	// Position is that of the change; when there was none, a position at which After was so already.
	Position record.Position
	// Repeated is the stored answer of the first call with the request's id; nil when this was the first.
	Repeated []byte
}

// Update carries out a call: it reads the app, computes the change and commits it, and starts over when somebody else
// was faster. Its errors are *apierr.Error; UNAVAILABLE with reason OUTCOME_UNKNOWN is the only one after which the
// change may have been made.
func (s *Store) Update(ctx context.Context, call Call) (Result, error) {
	ctx, cancel := withTimeout(ctx, callTimeout)
	defer cancel()
	partition := s.codec.PartitionOf(call.AppID)
	select {
	case s.turns[partition] <- struct{}{}:
		defer func() { <-s.turns[partition] }()
	case <-ctx.Done():
		return Result{}, unavailable(ctx.Err())
	}
	for {
		result, again, err := s.try(ctx, partition, call)
		if !again {
			return result, err
		}
		if ctx.Err() != nil {
			return Result{}, unavailable(errors.Join(errors.New("others kept changing the partition"), ctx.Err()))
		}
	}
}

// try carries out a call once; again says that the store was changed meanwhile and nothing was done.
func (s *Store) try(ctx context.Context, partition int, call Call) (result Result, again bool, err error) {
	requestKey := ""
	if r := call.Request; r.ID != "" {
		requestKey = record.KeysOf(partition).Request(r.Identity, r.Method, call.AppID, r.ID)
	}
	known, _, _ := s.replica.State(partition)
	f, err := s.read(ctx, call.AppID, requestKey)
	if err != nil {
		return Result{}, false, err
	}
	if f.head.Epoch < known.Epoch || f.head.Epoch == known.Epoch && f.head.Revision < known.Revision {
		return Result{}, false, forked(fmt.Errorf("its head is at %s, this authority was at %s before", f.head.Cursor, known))
	}
	if f.document != nil && f.document.Revision > f.head.Revision {
		return Result{}, true, nil // it was changed after the head was read
	}
	if f.request != nil {
		stored, err := s.codec.OpenRequest(partition, requestKey, f.request)
		if err == nil && time.Since(time.UnixMilli(stored.CreateMillis)) > RequestLife+time.Minute {
			err = errors.New("the request's result is older than results are kept")
		}
		switch {
		case err != nil:
			return Result{}, false, unverified(err)
		case !bytes.Equal(stored.Digest, call.Request.Digest):
			return Result{}, false, apierr.Invalid("request_id", "was used before with other content")
		}
		return Result{Before: f.document, After: f.document, Repeated: stored.Response}, false, nil
	}
	sum, ready, err := s.sumAt(ctx, partition, f)
	if err != nil || !ready {
		return Result{}, err == nil, err
	}
	if err := s.checkDocument(call.AppID, f.document); err != nil {
		// Either the document is not the one that the head stands for, or the head has moved on.
		now, _, _ := s.replica.State(partition)
		return Result{}, now != f.head.Cursor, err
	}
	after, err := call.Change(f.document)
	if err != nil {
		return Result{}, false, err
	}
	if after == nil {
		position := s.Position(call.AppID, f.head.Cursor)
		return Result{Before: f.document, After: f.document, Position: position}, false, s.keepResult(ctx, partition, requestKey, call, f.document, position)
	}
	c, position, err := s.prepare(partition, call, f, after, sum, requestKey)
	if err != nil {
		return Result{}, false, apierr.Unavailable(apierr.StoreUnavailable, "the change could not be encoded; nothing was changed").Because(err)
	}
	outcome, err := s.commit(ctx, c)
	if outcome == committed {
		s.replica.Offer(partition, c.link)
	}
	return Result{Before: f.document, After: after, Position: position}, outcome == conflict, err
}

// sumAt returns the partition's sum at the head that was read; ready is false when the head has moved on.
func (s *Store) sumAt(ctx context.Context, partition int, f found) (sum record.Sum, ready bool, err error) {
	switch err := s.replica.Reach(ctx, partition, f.head.Cursor); {
	case errors.Is(err, replica.ErrLost):
		return sum, false, forked(err)
	case err != nil:
		return sum, false, unavailable(err)
	}
	at, sum, _ := s.replica.State(partition)
	return sum, at == f.head.Cursor, nil
}

func forked(cause error) error {
	return apierr.Unavailable(apierr.StoreForked, "the store has lost changes that were made; nothing was changed").Because(cause)
}

// checkDocument makes sure that a document is the app's latest, not an older one that was put back.
func (s *Store) checkDocument(appID string, d *record.Document) error {
	entry := s.replica.Table().Find(appID).Entry
	switch {
	case entry == nil && d == nil, entry != nil && d != nil && entry.Revision == d.Revision:
		return nil
	}
	return unverified(errors.New("the document in the store is not the app's latest"))
}

// prepare computes everything that a commit writes.
func (s *Store) prepare(partition int, call Call, f found, after *record.Document, sum record.Sum, requestKey string) (*commit, record.Position, error) {
	before := f.document
	after.AppID = call.AppID
	after.Cursor = record.Cursor{Epoch: f.head.Epoch, Revision: f.head.Revision + 1, Tag: record.NewTag()}
	touch(before, after)
	position := s.Position(call.AppID, after.Cursor)
	event, answer := call.Describe(before, after, position)
	event.Revision = after.Revision

	head := record.Head{Cursor: after.Cursor, Policies: f.head.Policies}
	if before == nil {
		head.Policies++
	} else {
		sum = sum.Minus(s.codec.Element(partition, call.AppID, before.Revision))
	}
	head.State = s.codec.SealSum(partition, sum.Plus(s.codec.Element(partition, call.AppID, after.Revision)))

	c := &commit{
		partition: partition, appID: call.AppID, expected: f.rawHead, cursor: after.Cursor,
		requestKey: requestKey, urgent: call.Urgent,
	}
	var errs [5]error
	c.link, errs[0] = s.codec.SealLink(record.LinkBetween(f.head.Tag, before, after))
	c.document, errs[1] = s.codec.SealDocument(after)
	c.audit, head.Audit, errs[2] = s.codec.SealAudit(partition, f.head.Audit, event)
	c.auditSequence = head.Audit.Sequence
	c.head, errs[3] = s.codec.SealHead(partition, head)
	if requestKey != "" {
		c.result, errs[4] = s.sealResult(partition, requestKey, call.Request.Digest, answer)
	}
	return c, position, errors.Join(errs[:]...)
}

// keepResult keeps the answer of a call that changed nothing: repeated later, it must not be carried out on what has
// become of the app since.
func (s *Store) keepResult(ctx context.Context, partition int, key string, call Call, document *record.Document, at record.Position) error {
	if key == "" {
		return nil
	}
	_, answer := call.Describe(document, document, at)
	raw, err := s.sealResult(partition, key, call.Request.Digest, answer)
	if err != nil {
		return unavailable(err)
	}
	switch err := s.client.SetNX(ctx, key, raw, RequestLife).Err(); {
	case err == nil:
		return nil
	case call.Urgent:
		// There is nothing left to revoke, say; a full Redis, which cannot keep the answer, must not keep it back.
		s.log.Warn("the answer to a request could not be kept", "app", call.AppID, "error", err)
		return nil
	default:
		return unavailable(err)
	}
}

func (s *Store) sealResult(partition int, key string, digest []byte, answer proto.Message) ([]byte, error) {
	response, err := proto.Marshal(answer)
	if err != nil {
		return nil, err
	}
	return s.codec.SealRequest(partition, record.RequestResult{
		Digest: digest, Response: response, Key: key, CreateMillis: time.Now().UnixMilli(),
	})
}

// touch sets the revision of every token that is new or changed.
func touch(before, after *record.Document) {
	old := map[string]record.Token{}
	if before != nil {
		for _, t := range before.Tokens {
			old[t.ID] = t
		}
	}
	for i := range after.Tokens {
		t := &after.Tokens[i]
		if was, ok := old[t.ID]; !ok || was != *t {
			t.TouchedRevision = after.Revision
		}
	}
}
