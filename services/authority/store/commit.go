package store

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
)

//go:embed commit.lua
var script string

// allowOOM lets a script write when Redis is out of memory, so that a full Redis can still revoke (Redis, Scripting:
// script flags).
const allowOOM = "#!lua flags=allow-oom\n"

// resendPause is the pause between two sendings of a commit whose outcome is unknown.
const resendPause = 50 * time.Millisecond

// commit is everything that one run of the script writes. Sent again, it is the same to the byte, so that it cannot
// be done twice.
type commit struct {
	partition     int
	appID         string
	expected      []byte
	head          []byte
	cursor        record.Cursor
	link          []byte
	document      []byte
	auditSequence uint64
	audit         []byte
	requestKey    string
	result        []byte
	urgent        bool
}

type outcome int

const (
	unknown   outcome = iota // it may have been made
	refused                  // it was not made, and will not be
	conflict                 // it was not made: the head is another
	committed                // it was made
)

// commit sends a commit until its outcome is known, for at most commitTimeout. The error is nil for conflict and
// committed.
func (s *Store) commit(ctx context.Context, c *commit) (outcome, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	for ambiguous := false; ; {
		reply, err := s.send(ctx, c)
		switch {
		case err == nil && reply == "OK":
			return committed, nil
		case err == nil && reply == "CONFLICT" && !ambiguous:
			return conflict, nil
		case err == nil && reply == "CONFLICT":
			if done, err := s.settle(ctx, c); err == nil {
				return done, nil
			}
		case !ambiguous && (err == nil || definite(err)):
			return refused, unavailable(fmt.Errorf("commit script: %q %w", reply, errOrNil(err)))
		default:
			ambiguous = true
			s.log.Warn("a commit's reply was lost; sending it again", "app", c.appID, "revision", c.cursor.Revision, "error", err)
		}
		select {
		case <-ctx.Done():
			return unknown, apierr.Unavailable(apierr.OutcomeUnknown,
				"the store did not say whether the change was made; repeat the call with its request_id, or read the app").Because(err)
		case <-time.After(resendPause):
		}
	}
}

var errRefused = errors.New("refused")

func errOrNil(err error) error {
	if err == nil {
		return errRefused
	}
	return err
}

func (s *Store) send(ctx context.Context, c *commit) (string, error) {
	text := script
	if c.urgent && !s.options.Embedded {
		text = allowOOM + script
	}
	names := record.KeysOf(c.partition)
	keys := []string{names.Head, names.Policies, names.Log, names.Audit}
	if c.requestKey != "" {
		keys = append(keys, c.requestKey)
	}
	return s.client.Eval(ctx, text, keys,
		c.expected, c.head, c.cursor.Revision, c.link, c.appID, c.document, c.auditSequence, c.audit, names.Hint,
		LogLength, c.result, int(RequestLife/time.Second)).Text()
}

// refusals are the errors by which Redis refuses the first write of a script, and none after it (Redis, Scripting: OOM,
// replicas, persistence errors).
var refusals = []string{"OOM", "READONLY", "MISCONF", "NOREPLICAS", "MASTERDOWN"}

// definite tells whether an error means that the script did not run: Redis said so, or was never reached. An error of a
// command inside the script says nothing of those before it, but for one of refusals.
func definite(err error) bool {
	var answer redis.Error
	if errors.As(err, &answer) {
		kind, _, _ := strings.Cut(answer.Error(), " ")
		return !strings.Contains(answer.Error(), "script: ") || slices.Contains(refusals, kind)
	}
	var network *net.OpError
	return errors.As(err, &network) && network.Op == "dial"
}

// settle tells whether a commit that was sent more than once is in the store: its tag is in the head, or in the log
// at its revision.
func (s *Store) settle(ctx context.Context, c *commit) (outcome, error) {
	names := record.KeysOf(c.partition)
	raw, err := s.client.Get(ctx, names.Head).Bytes()
	if err != nil {
		return unknown, err
	}
	if bytes.Equal(raw, c.head) {
		return committed, nil
	}
	id := fmt.Sprintf("%d-0", c.cursor.Revision)
	entries, err := s.client.XRange(ctx, names.Log, id, id).Result()
	if err != nil {
		return unknown, err
	}
	if len(entries) == 0 {
		return unknown, fmt.Errorf("the log has no revision %d", c.cursor.Revision)
	}
	if entries[0].Values[redisfeed.LinkField] == string(c.link) {
		return committed, nil
	}
	return conflict, nil
}
