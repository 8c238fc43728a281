package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/record"
)

// resendPause is the pause between two sendings of a script, or two looks, that Redis did not answer.
const resendPause = 50 * time.Millisecond

type outcome int

const (
	unknown    outcome = iota // it may have been made
	refused                   // it was not made, and will not be
	conflict                  // it was not made: the head is another
	superseded                // as conflict, after a sending that nobody answered; see sending.settle
	committed                 // it was made
)

// sending is a script that is sent until it is known what became of it.
type sending struct {
	partition int
	// expected is the head that it was computed from, nil for none; head is the one that it writes.
	expected, head []byte
	// cursor and entry are those of the first entry of the log that it writes.
	cursor record.Cursor
	entry  []byte
	send   func(context.Context) (Reply, error)
}

// remedies say what an operator does about answers that stay the same until then.
var remedies = map[string]string{
	"WRONG_TYPE":    ", a key of the partition holds something of another type (countersign store repair)",
	"AHEAD_OF_HEAD": ", the log or the audit trail has an entry that no change can follow (countersign store repair)",
}

// pursue sends a script until its outcome is known, for at most commitTimeout. The error is nil for
// conflict, superseded and committed. When nobody answered, the identical script is sent again; so one that
// was lost with a master that failed over is made after all.
func (s *Store) pursue(ctx context.Context, c sending) (outcome, Durability, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	durability := Durability{Wanted: s.options.WriteQuorum}
	for ambiguous := false; ; {
		reply, err := c.send(ctx)
		if err == nil && reply.Answer != Made && reply.Answer != Conflict {
			err = fmt.Errorf("%w: %s%s", ErrRefused, reply.Answer, remedies[reply.Answer])
		}
		switch {
		case err == nil && reply.Answer == Made:
			durability.Acknowledged = reply.Acknowledged
			return committed, durability, nil
		case err == nil && !ambiguous:
			return conflict, durability, nil
		case err == nil:
			var done outcome
			if done, err = s.settle(ctx, c); err == nil {
				return done, durability, nil
			}
		case !ambiguous && (errors.Is(err, ErrNotRun) || errors.Is(err, ErrRefused)):
			return refused, durability, unavailable(err)
		default:
			ambiguous = true
			s.log.Warn("a commit's reply was lost; sending it again", "partition", c.partition, "revision", c.cursor.Revision, "error", err)
		}
		if !pause(ctx) {
			return unknown, durability, outcomeUnknown(err)
		}
	}
}

// pause waits a little; false when ctx ended.
func pause(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(resendPause):
		return true
	}
}

func outcomeUnknown(cause error) error {
	return apierr.Unavailable(apierr.OutcomeUnknown,
		"the store did not say whether the change was made; repeat the call with its request_id, or read the app").Because(cause)
}

// settle tells whether a script that was sent more than once, and found another head at last, was carried
// out: what it writes is in the head, or in the log in its place. An error says that it cannot be told now.
//
// Superseded is certain for the store as it is. It does not say that a failover did not lose the script's
// work: those who saw it then hold on to it, and a healing may bring it back.
func (s *Store) settle(ctx context.Context, c sending) (outcome, error) {
	raw, entries, err := s.redis.Tail(ctx, c.partition, c.cursor.Revision-1, 1)
	switch {
	case err != nil:
		return unknown, err
	case bytes.Equal(raw, c.head):
		return committed, nil
	case raw == nil:
		return unknown, errNoHead
	}
	head, err := s.codec.OpenHead(c.partition, raw)
	if err != nil {
		return unknown, err
	}
	var expected record.Head // none is behind all
	if c.expected != nil {
		if expected, err = s.codec.OpenHead(c.partition, c.expected); err != nil {
			return unknown, err
		}
	}
	switch {
	case covers(head, c.cursor):
		if len(entries) == 0 || entries[0].Revision != c.cursor.Revision {
			return unknown, fmt.Errorf("the log has no revision %d", c.cursor.Revision)
		}
		if bytes.Equal(entries[0].Data, c.entry) {
			return committed, nil
		}
		return superseded, nil
	case head.Epoch > c.cursor.Epoch:
		healed, err := s.settled(ctx, c.partition, c.cursor, head)
		if err == nil && healed {
			err = errors.New("a failover lost it, and a healing brought it back, or a part of it")
		}
		return superseded, err
	case expected.Before(head.Cursor),
		head.Cursor == expected.Cursor: // an audit row was added, which changes nothing but the head
		return superseded, nil
	}
	return unknown, fmt.Errorf("the store has gone back to %s", head.Cursor)
}

// covers tells whether a head's past has a change at the place of a cursor, be it that one or another.
func covers(head record.Head, at record.Cursor) bool {
	if at.Epoch == head.Epoch {
		return at.Revision <= head.Revision
	}
	i := slices.IndexFunc(head.Forks, func(end record.Cursor) bool { return end.Epoch == at.Epoch })
	return i >= 0 && at.Revision <= head.Forks[i].Revision
}

// settled tells whether the start of an epoch settles a lost change.
func (s *Store) settled(ctx context.Context, partition int, lost record.Cursor, head record.Head) (bool, error) {
	after := lost.Revision - 1
	if i := slices.IndexFunc(head.Forks, func(end record.Cursor) bool { return end.Epoch == lost.Epoch }); i >= 0 {
		after = min(after, head.Forks[i].Revision)
	}
	found := false
	err := s.readLog(ctx, partition, after, head.Revision, func(e record.Entry) {
		found = found || slices.Contains(e.Settled, lost.Tag)
	})
	return found, err
}
