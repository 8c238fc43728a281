package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/apierr"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// noteTimeout bounds the attempts in one partition, so that a partition without a clear answer leaves time
// for the others.
const noteTimeout = 2 * time.Second

// Note adds an audit row for an event that belongs to no app, and sets the event's revision. The row goes to
// the first partition that accepts it, usually 0: an operator must be able to forget a validator while one
// partition is damaged. After an error the row may have been written all the same. After a lost reply it may
// have been written twice.
func (s *Store) Note(ctx context.Context, event *countersignv1.AuditEvent) error {
	ctx, cancel := withTimeout(ctx, callTimeout)
	defer cancel()
	var errs []error
	for partition := range s.partitions {
		err := func() error {
			ctx, cancel := context.WithTimeout(ctx, noteTimeout)
			defer cancel()
			return s.note(ctx, partition, event)
		}()
		if err == nil {
			return nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return apierr.Unavailable(apierr.StoreUnavailable,
		"the audit trail cannot be written; nothing was changed").Because(errors.Join(errs...))
}

func (s *Store) note(ctx context.Context, partition int, event *countersignv1.AuditEvent) error {
	var sent []byte
	for {
		from, err := s.origin(ctx, partition)
		switch {
		case err != nil:
			return err
		case from.head == nil:
			return errNoHead
		case sent != nil && bytes.Equal(from.raw, sent):
			return nil
		}
		noted := proto.Clone(event).(*countersignv1.AuditEvent)
		noted.Revision = from.head.Revision
		row, tail, err := s.codec.SealAudit(partition, from.head.Audit, noted)
		if err != nil {
			return err
		}
		head := *from.head
		head.Audit = tail
		b := &Beginning{Partition: partition, Expected: from.raw, Audit: []AuditRow{{Sequence: tail.Sequence, Data: row}}}
		if b.Head, err = s.codec.SealHead(partition, head); err != nil {
			return err
		}
		sent = b.Head
		reply, err := s.redis.Begin(ctx, b)
		switch {
		case err == nil && reply.Answer == Made:
			return nil
		case err == nil && reply.Answer != Conflict:
			return fmt.Errorf("%w: %s", ErrRefused, reply.Answer)
		case errors.Is(err, ErrNotRun), errors.Is(err, ErrRefused):
			return err
		case !pause(ctx):
			return errors.Join(ctx.Err(), err)
		}
	}
}
