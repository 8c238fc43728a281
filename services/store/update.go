package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// Request identifies a call, so that a client may repeat it safely (AIP-155). The zero value is for a call
// without a request id.
type Request struct {
	Identity, Method, ID string
	// Digest is the digest of the call's content without the id.
	Digest []byte
}

// Call is a change of one app.
type Call struct {
	AppID   string
	Request Request
	// Urgent lets the change through when Redis is out of memory. It is for revoking and disabling.
	Urgent bool
	// Change returns the document after the call, or nil to change nothing. Before is nil for an app without
	// a document; Change must not modify it. Change may be called several times and must have no side effect.
	// Its error ends the call. The store sets the cursor and the TouchedRevision of tokens.
	Change func(before *record.Document) (after *record.Document, err error)
	// Event has the audit row's fields about the call: the identity, the time and the method. The store adds
	// the app, the revision and what Options.Audit adds. It does not change Event.
	Event *countersignv1.AuditEvent
	// Answer returns the response to the call, which is also kept for a repetition of Request. After is the
	// app's document, nil for an app without one; at is Result.Position. It may be called several times, and
	// must have no side effect.
	Answer func(after *record.Document, at record.Position) proto.Message
}

// Result is the outcome of a call.
type Result struct {
	// Before and After are the documents. They are equal when the call changed nothing.
	Before, After *record.Document
	// Position is the position of the change. When the call changed nothing, it is a position at which the
	// store already had After.
	Position record.Position
	// Answer is the message that Call.Answer has returned; nil when Repeated is set.
	Answer proto.Message
	// Repeated is the encoded answer to the first call with the request's id; nil when this call was the
	// first.
	Repeated []byte
	// Durability says how many Redis replicas have confirmed the change.
	Durability Durability
}

// Durability says how many Redis replicas have confirmed a change.
type Durability struct {
	// Wanted is Options.WriteQuorum.
	Wanted int
	// Acknowledged is how many replicas confirmed the change in time. It is 0 also when that is unknown:
	// after a lost reply, or when the call changed nothing.
	Acknowledged int
}

// Update carries out a call: it reads the app, computes the change and commits it. When another writer was
// faster, it starts over. Its errors are *apierr.Error. Only after UNAVAILABLE with reason OUTCOME_UNKNOWN
// may the change have been made.
func (s *Store) Update(ctx context.Context, call Call) (Result, error) {
	ctx, cancel := withTimeout(ctx, callTimeout)
	defer cancel()
	partition := s.codec.PartitionOf(call.AppID)
	var result Result
	inDoubt := false
	err := insist(ctx, func() error {
		for {
			next, done, err := s.turn(ctx, partition, call)
			result = next
			inDoubt = inDoubt || done == superseded
			if err != nil || done != conflict && done != superseded {
				return err
			}
			if ctx.Err() != nil {
				return unavailable(errors.Join(errors.New("other writers kept changing the partition"), ctx.Err()))
			}
		}
	})
	if e := (*apierr.Error)(nil); inDoubt && errors.As(err, &e) && e.Code() == codes.Unavailable {
		// The change of an earlier attempt is not in the store. A failover may have lost it, and a healing
		// may bring it back.
		err = outcomeUnknown(err)
	}
	return result, err
}

// turn waits until no other change of this process to the partition runs. Then it carries out a call once.
func (s *Store) turn(ctx context.Context, partition int, call Call) (Result, outcome, error) {
	release, err := s.take(ctx, partition)
	if err != nil {
		return Result{}, refused, err
	}
	defer release()
	if s.partitions[partition].frozen.Load() {
		return Result{}, refused, forked(errors.New("the partition is frozen until it is healed"))
	}
	return s.try(ctx, partition, call)
}

// try carries out a call once. With the outcomes conflict and superseded there is no error. The head has
// changed since the call was computed from it, so the caller must try again. Any other outcome is final.
func (s *Store) try(ctx context.Context, partition int, call Call) (Result, outcome, error) {
	none := Durability{Wanted: s.options.WriteQuorum}
	requestKey := ""
	if r := call.Request; r.ID != "" {
		requestKey = record.KeysOf(partition).Request(r.Identity, r.Method, call.AppID, r.ID)
	}
	known, _, _ := s.replica.State(partition)
	f, err := s.read(ctx, call.AppID, requestKey)
	if err != nil {
		return Result{}, refused, err
	}
	if f.head.Before(known) {
		return Result{}, refused, forked(fmt.Errorf("its head is at %s, this authority was at %s before", f.head.Cursor, known))
	}
	if f.document != nil && f.document.Revision > f.head.Revision {
		return Result{}, conflict, nil // the document was changed after the head was read
	}
	var stored []byte
	if f.request != nil {
		if stored, err = s.openResult(partition, requestKey, f.request, call.Request.Digest); err != nil {
			return Result{}, refused, err
		}
	}
	sum, ready, err := s.sumAt(ctx, partition, f)
	switch {
	case err != nil:
		return Result{}, refused, err
	case stored != nil:
		// sumAt has waited until this authority's replica holds the change of the stored answer. The
		// authority that made the change may be down, and a failover may lose it.
		return Result{Before: f.document, After: f.document, Repeated: stored, Durability: none}, refused, nil
	case !ready:
		return Result{}, conflict, nil
	}
	if err := s.checkDocument(call.AppID, f.document); err != nil {
		if now, _, _ := s.replica.State(partition); now != f.head.Cursor {
			return Result{}, conflict, nil
		}
		return Result{}, refused, err
	}
	after, err := call.Change(f.document)
	if err != nil {
		return Result{}, refused, err
	}
	if after == nil {
		position := s.Position(call.AppID, f.head.Cursor)
		answer := call.Answer(f.document, position)
		return Result{Before: f.document, After: f.document, Position: position, Answer: answer, Durability: none}, refused,
			s.keepResult(ctx, partition, requestKey, call, answer)
	}
	c, result, err := s.prepare(partition, call, f, after, sum, requestKey)
	switch {
	case errors.Is(err, record.ErrLimit):
		return Result{}, refused, apierr.Exhausted("STORE_LIMIT", "nothing was changed: %s", err)
	case err != nil:
		return Result{}, refused, apierr.Unavailable(apierr.StoreUnavailable,
			"the change could not be encoded; nothing was changed").Because(err)
	}
	done, durability, err := s.pursue(ctx, sending{
		partition: partition, expected: c.Expected, head: c.Head, cursor: c.Cursor, entry: c.Link,
		send: func(ctx context.Context) (Reply, error) { return s.redis.Commit(ctx, c) },
	})
	if done == committed {
		s.replica.Committed(partition, c.change, c.Link)
	}
	result.Durability = durability
	return result, done, err
}

// openResult returns the stored answer to a request. It fails when the stored request had other content.
func (s *Store) openResult(partition int, key string, raw, digest []byte) ([]byte, error) {
	stored, err := s.codec.OpenRequest(partition, key, raw)
	if err == nil && time.Since(time.UnixMilli(stored.CreateMillis)) > RequestLife+time.Minute {
		err = errors.New("the request's result is older than results are kept")
	}
	switch {
	case err != nil:
		return nil, unverified(err)
	case !bytes.Equal(stored.Digest, digest):
		return nil, apierr.Invalid("request_id", "was used before with other content")
	}
	return stored.Response, nil
}

// sumAt returns the partition's sum at the head that was read. Ready is false when the replica is already
// beyond that head.
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
	return apierr.Unavailable(apierr.StoreForked,
		"the store has lost changes that were made; nothing was changed").Because(cause)
}

// checkDocument fails when a document is not the app's latest. An attacker may have put an older document
// back.
func (s *Store) checkDocument(appID string, d *record.Document) error {
	entry := s.replica.Table().Find(appID).Entry()
	switch {
	case entry == nil && d == nil, entry != nil && d != nil && entry.Revision == d.Revision:
		return nil
	}
	return unverified(errors.New("the document in the store is not the app's latest"))
}

// prepare computes everything that a commit writes, and the result of the call if the commit is made.
func (s *Store) prepare(partition int, call Call, f found, after *record.Document, sum record.Sum, requestKey string,
) (*Commit, Result, error) {
	before := f.document
	after.AppID = call.AppID
	after.Cursor = record.Cursor{Epoch: f.head.Epoch, Revision: f.head.Revision + 1, Tag: record.NewTag()}
	touch(before, after)
	position := s.Position(call.AppID, after.Cursor)
	event := &countersignv1.AuditEvent{}
	if call.Event != nil {
		event = proto.Clone(call.Event).(*countersignv1.AuditEvent)
	}
	event.AppId, event.Revision = call.AppID, after.Revision
	s.audit(event, before, after)
	answer := call.Answer(after, position)

	head := f.head
	head.Cursor = after.Cursor
	if before == nil {
		head.Policies++
	} else {
		sum = s.codec.Remove(sum, partition, call.AppID, before.Revision)
	}
	head.State = s.codec.SealSum(partition, s.codec.Add(sum, partition, call.AppID, after.Revision))

	c := &Commit{
		Partition: partition, AppID: call.AppID, Expected: f.rawHead, Cursor: after.Cursor,
		RequestKey: requestKey, Urgent: call.Urgent,
	}
	var errs [5]error
	link := record.LinkBetween(f.head.Tag, before, after)
	if name := event.GetIdentity(); name != "" {
		link.Authors = []string{name}
	}
	c.change = link
	c.Link, errs[0] = s.codec.SealLink(link)
	c.Document, errs[1] = s.codec.SealDocument(after)
	c.Audit.Data, head.Audit, errs[2] = s.codec.SealAudit(partition, f.head.Audit, event)
	c.Audit.Sequence = head.Audit.Sequence
	c.Head, errs[3] = s.codec.SealHead(partition, head)
	if requestKey != "" {
		c.Result, errs[4] = s.sealResult(partition, requestKey, call.Request.Digest, answer)
	}
	return c, Result{Before: before, After: after, Position: position, Answer: answer}, errors.Join(errs[:]...)
}

// audit adds to an audit event what the change did to an app (Options.Audit).
func (s *Store) audit(event *countersignv1.AuditEvent, before, after *record.Document) {
	if s.options.Audit != nil {
		s.options.Audit(event, before, after)
	}
}

// keepResult stores the answer to a call that changed nothing, so that a repetition gets this answer. If the
// repetition were carried out, it could change the app, because the app may have changed since the first
// call.
func (s *Store) keepResult(ctx context.Context, partition int, key string, call Call, answer proto.Message) error {
	if key == "" {
		return nil
	}
	raw, err := s.sealResult(partition, key, call.Request.Digest, answer)
	if err != nil {
		return unavailable(err)
	}
	switch err := s.redis.Keep(ctx, key, raw); {
	case err == nil:
		return nil
	case call.Urgent:
		// A full Redis cannot keep the answer. That must not fail an urgent call that found nothing to do.
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
	for _, c := range record.TokenChanges(before, after) {
		if c.After != nil {
			c.After.TouchedRevision = after.Revision
		}
	}
}
