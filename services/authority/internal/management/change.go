package management

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/audit"
	"github.com/countersign/countersign/services/authority/internal/identity"
	"github.com/countersign/countersign/services/authority/internal/rules"
	"github.com/countersign/countersign/services/store"
)

// change is one changing call on one app.
type change[R response] struct {
	method  string
	appID   string
	request changing
	// urgent lets the change through when Redis is out of memory.
	urgent bool
	// apply returns the document after the call; see store.Call.Change.
	apply func(before *record.Document, by rules.By) (*record.Document, error)
	// answer makes the response from the document after the call, without the common fields. It is also kept
	// for a repetition, so it has no secret.
	answer func(after *record.Document, now time.Time) R
	// note adds to the audit event what apply has found; nil adds nothing. It is called after each apply.
	note func(event *countersignv1.AuditEvent)
}

// perform carries a change out, and waits for its receipt if the request asks for one.
func perform[R response](ctx context.Context, s *Service, c change[R]) (answer R, repeated bool, err error) {
	answer, repeated, err = carryOut(ctx, s, c)
	if err == nil {
		s.addReceipt(ctx, c.request, answer, answer.GetConsistencyToken())
	}
	return answer, repeated, err
}

// carryOut carries a change out. A repetition (AIP-155) gets the response of the first call, and changes
// nothing.
func carryOut[R response](ctx context.Context, s *Service, c change[R]) (answer R, repeated bool, err error) {
	if err := checkChanging(c.request); err != nil {
		return nil, false, err
	}
	by := rules.By{Identity: identity.From(ctx).Name, Now: time.Now().Truncate(time.Millisecond)}
	digest, err := requestDigest(c.method, by.Identity, c.request)
	if err != nil {
		return nil, false, err
	}
	st, err := s.storeOf(c.appID)
	if err != nil {
		return nil, false, err
	}
	event := audit.Call(ctx, c.method, c.request, by.Now)
	result, err := st.Update(ctx, store.Call{
		AppID:  c.appID,
		Urgent: c.urgent,
		Request: store.Request{
			Identity: by.Identity, Method: c.method, ID: c.request.GetRequestId(), Digest: digest,
		},
		Change: func(before *record.Document) (*record.Document, error) {
			after, err := c.apply(before, by)
			if c.note != nil {
				c.note(event)
			}
			return after, refused(err)
		},
		Event: event,
		Answer: func(after *record.Document, at record.Position) proto.Message {
			answer := c.answer(after, by.Now)
			*commonOf(answer).consistencyToken = record.EncodePosition(at)
			return answer
		},
	})
	if err != nil {
		return nil, false, err
	}
	if repeated = result.Repeated != nil; !repeated {
		answer = result.Answer.(R)
	} else {
		answer = answer.ProtoReflect().New().Interface().(R)
		if err := proto.Unmarshal(result.Repeated, answer); err != nil {
			return nil, true, err
		}
	}
	setDurability(answer, result.Durability)
	return answer, repeated, nil
}

// setDurability fills in how many Redis replicas have the change, if the store waited for any. The answer
// that is kept for a repetition lacks the field: it is written with the change, before a replica can confirm
// it.
func setDurability(answer proto.Message, d store.Durability) {
	if d.Wanted != 0 {
		*commonOf(answer).durability = &countersignv1.Durability{Wanted: uint32(d.Wanted), Acknowledged: uint32(d.Acknowledged)}
	}
}

// requestDigest returns a digest of the method, the caller and the content of a request. It distinguishes a
// repeated request from another one with the same id.
func requestDigest(method, caller string, request changing) ([]byte, error) {
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(content(request))
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d:%s%d:%s", len(method), method, len(caller), caller)
	h.Write(data)
	return h.Sum(nil), nil
}
