// Package management is the AuthorityService: it reads requests, checks their form, has rules compute the
// change and the store commit it, and writes answers. Every rule about tokens and enforcement is in rules;
// what is here is the edge.
package management

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/identity"
	"github.com/countersign/countersign/services/authority/internal/rules"
	"github.com/countersign/countersign/services/store"
)

// Service implements countersignv1.AuthorityServiceServer. It is safe for concurrent use.
type Service struct {
	countersignv1.UnimplementedAuthorityServiceServer
	open  atomic.Pointer[store.Store]
	fleet Fleet
}

// New returns a service that asks a fleet for receipts.
func New(fleet Fleet) *Service { return &Service{fleet: fleet} }

// Open gives the service the store to work on. Until then every call is UNAVAILABLE.
func (s *Service) Open(opened *store.Store) { s.open.Store(opened) }

// store returns the store for a call that is about all apps. Partitions that cannot be loaded are the
// call's to name.
func (s *Service) store() (*store.Store, error) {
	if opened := s.open.Load(); opened != nil && opened.Replica().Tried() {
		return opened, nil
	}
	return nil, errNotLoaded
}

var errNotLoaded = apierr.Unavailable(apierr.NotLoaded, "the authority has not loaded the store yet; nothing was changed")

// changing is what every changing request has.
type changing interface {
	proto.Message
	GetRequestId() string
	GetWaitForPropagation() *durationpb.Duration
}

// change is one changing call on one app.
type change struct {
	method  string
	appID   string
	request changing
	urgent  bool
	apply   func(before *record.Document, by rules.By) (*record.Document, error)
	// answer makes the response; on a repetition it is not called. The secret, if any, is added by the
	// caller.
	answer func(before, after *record.Document, token string, now time.Time) proto.Message
}

// perform carries a change out, and waits for its receipt if that is asked for.
func (s *Service) perform(ctx context.Context, c change, response changed) (repeated bool, err error) {
	if repeated, err = s.carryOut(ctx, c, response); err == nil {
		s.addReceipt(ctx, c.request, response, response.GetConsistencyToken())
	}
	return repeated, err
}

// changed is what every response to a change of one app has.
type changed interface {
	proto.Message
	GetConsistencyToken() string
}

// carryOut carries a change out. The response goes into the given message, also on a repetition (AIP-155).
func (s *Service) carryOut(ctx context.Context, c change, response proto.Message) (repeated bool, err error) {
	if err := checkChanging(c.request); err != nil {
		return false, err
	}
	by := rules.By{Identity: identity.From(ctx).Name, Now: time.Now().Truncate(time.Millisecond)}
	digest, err := requestDigest(c.method, by.Identity, c.request)
	if err != nil {
		return false, err
	}
	st, err := s.storeOf(c.appID)
	if err != nil {
		return false, err
	}
	result, err := st.Update(ctx, store.Call{
		AppID:  c.appID,
		Urgent: c.urgent,
		Request: store.Request{
			Identity: by.Identity, Method: c.method, ID: c.request.GetRequestId(), Digest: digest,
		},
		Change: func(before *record.Document) (*record.Document, error) {
			after, err := c.apply(before, by)
			return after, nameScopes(err)
		},
		Describe: func(before, after *record.Document, at record.Position) (*countersignv1.AuditEvent, proto.Message) {
			answer := c.answer(before, after, record.EncodePosition(at), by.Now)
			if after == before {
				return nil, answer // nothing was changed
			}
			event := Event(before, after, by.Identity, by.Now)
			event.RequestId = c.request.GetRequestId()
			annotate(ctx, event, c.method, c.request)
			return event, answer
		},
	})
	if err != nil {
		return false, err
	}
	if result.Repeated != nil {
		if err := proto.Unmarshal(result.Repeated, response); err != nil {
			return true, err
		}
	} else {
		proto.Merge(response, c.answer(result.Before, result.After, record.EncodePosition(result.Position), by.Now))
	}
	setDurability(response, result.Durability)
	return result.Repeated != nil, nil
}

// setDurability fills in the field that every changing response has, if replicas were waited for. It is not
// part of the answer that is kept for a repetition, since that is written with the change, before anybody
// can confirm it.
func setDurability(response proto.Message, d store.Durability) {
	if d.Wanted == 0 {
		return
	}
	fields := response.ProtoReflect()
	value := &countersignv1.Durability{Wanted: uint32(d.Wanted), Acknowledged: uint32(d.Acknowledged)}
	fields.Set(fields.Descriptor().Fields().ByName("durability"), protoreflect.ValueOfMessage(value.ProtoReflect()))
}

// revokeSecret is the name of the one method that changes several apps.
const revokeSecret = "RevokeSecret"

// requestDigest tells a repeated request from another one with the same id: a digest of all but what may
// differ. A RevokeSecret that one app has refused as a lockout is repeated with allow_lockout, and is done
// in the other apps.
func requestDigest(method, caller string, request changing) ([]byte, error) {
	content := proto.Clone(request)
	fields := content.ProtoReflect()
	differ := []string{"request_id", "wait_for_propagation"}
	if method == revokeSecret {
		differ = append(differ, "allow_lockout")
	}
	for _, name := range differ {
		fields.Clear(fields.Descriptor().Fields().ByName(protoName(name)))
	}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(content)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d:%s%d:%s", len(method), method, len(caller), caller)
	h.Write(data)
	return h.Sum(nil), nil
}

// nameScopes gives an error about scopes its words.
func nameScopes(err error) error {
	var about *rules.ScopesError
	if errors.As(err, &about) {
		return about.Make(scopeNames(about.Scopes))
	}
	return err
}

// read returns an app's document as it is now; nil when it has none or was deleted.
func (s *Service) read(ctx context.Context, appID string) (*record.Document, error) {
	if err := checkAppID(appID); err != nil {
		return nil, err
	}
	st, err := s.storeOf(appID)
	if err != nil {
		return nil, err
	}
	d, _, err := st.Read(ctx, appID)
	if err != nil || d == nil || d.Deleted {
		return nil, err
	}
	return d, nil
}

func notServed(what string) error {
	return apierr.Unimplemented("%s is not served by this release", what)
}
