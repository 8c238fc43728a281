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

// resendPause is the pause before a script or a read is sent again, when Redis has not answered it.
const resendPause = 50 * time.Millisecond

type outcome int

const (
	unknown    outcome = iota // the change may have been made
	refused                   // the change was not made, and will not be
	conflict                  // the change was not made: the head is not the expected one
	superseded                // as conflict, but an earlier send had no answer; see Store.resolve
	committed                 // the change was made
)

// sending is a script that is sent until its outcome is known.
type sending struct {
	partition int
	// expected is the head that the script was computed from, nil for none. Head is the head that it writes.
	expected, head []byte
	// cursor and entry are the first log entry that it writes.
	cursor record.Cursor
	entry  []byte
	send   func(context.Context) (Reply, error)
}

// remedies explain answers of a script that a retry does not change, and name the command that repairs the
// store. They are parts of error texts.
var remedies = map[string]string{
	"WRONG_TYPE":    ", a key of the partition holds something of another type (countersign store repair)",
	"AHEAD_OF_HEAD": ", the log or the audit trail has an entry that no change can follow (countersign store repair)",
}

// pursue sends a script until its outcome is known, for at most commitTimeout. The error is nil for conflict,
// superseded and committed. Without an answer it sends the identical script again. So a change that was lost
// with a failed master is made on the new master.
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
			if done, err = s.resolve(ctx, c); err == nil {
				return done, durability, nil
			}
		case !ambiguous && (errors.Is(err, ErrNotRun) || errors.Is(err, ErrRefused)):
			return refused, durability, unavailable(err)
		default:
			ambiguous = true
			s.log.Warn("a commit's reply was lost; sending it again", "partition", c.partition, "revision", c.cursor.Revision,
				"error", err)
		}
		if !pause(ctx) {
			return unknown, durability, outcomeUnknown(err)
		}
	}
}

// pause waits for resendPause; false when ctx ended.
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

// resolve finds the outcome of a script that was sent more than once and whose last send found an unexpected
// head. The script was carried out if its head is the current one, or if its entry is in the log at its
// revision. An error says that the outcome is still unknown.
//
// Superseded means that the store does not have the script's change at this time. The script may have made
// the change before, and a failover may have lost it. Processes that saw the change hold it as an orphan, and
// a healing may bring it back.
func (s *Store) resolve(ctx context.Context, c sending) (outcome, error) {
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
	var expected record.Head // without an expected head, the zero value comes before every head
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
		head.Cursor == expected.Cursor: // an audit row was added: that changes only the head
		return superseded, nil
	}
	return unknown, fmt.Errorf("the store has gone back to %s", head.Cursor)
}

// covers reports whether a head's history reaches a cursor's epoch and revision. The change at that revision
// may be another one.
func covers(head record.Head, at record.Cursor) bool {
	if at.Epoch == head.Epoch {
		return at.Revision <= head.Revision
	}
	i := slices.IndexFunc(head.Forks, func(end record.Cursor) bool { return end.Epoch == at.Epoch })
	return i >= 0 && at.Revision <= head.Forks[i].Revision
}

// settled reports whether the start of a later epoch settles a lost change.
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
