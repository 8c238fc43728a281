package tools

import (
	"context"
	_ "embed"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
)

//go:embed swap.lua
var swapScript string

// stageBytes is about how many bytes are sent to Redis at once.
const stageBytes = 1 << 20

// errChanged says that another writer has changed a partition meanwhile.
var errChanged = errors.New("the partition was changed meanwhile")

// stage is a partition that is being written under temporary keys of the same slot, until one script swaps it
// in.
type stage struct {
	ctx       context.Context
	client    *redisfeed.Client
	keys      record.Keys
	aside     [3]string // policies, log, audit
	counts    [3]int
	documents []any
	entries   [2][][]any // of log and audit: commands
	size      int
}

// asideNames returns the temporary keys of a run.
func asideNames(keys record.Keys, run string) [3]string {
	return [3]string{keys.Policies + ":" + run, keys.Log + ":" + run, keys.Audit + ":" + run}
}

func newStage(ctx context.Context, client *redisfeed.Client, partition int, run string) *stage {
	keys := record.KeysOf(partition)
	return &stage{ctx: ctx, client: client, keys: keys, aside: asideNames(keys, run)}
}

func (s *stage) document(appID string, raw []byte) error {
	s.documents = append(s.documents, appID, raw)
	s.counts[0]++
	return s.added(len(raw))
}

func (s *stage) entry(e record.RawEntry) error {
	field := redisfeed.LinkField
	if e.EpochStart {
		field = redisfeed.EpochField
	}
	return s.row(1, e.Revision, field, e.Data)
}

func (s *stage) audit(sequence uint64, raw []byte) error {
	return s.row(2, sequence, redisfeed.AuditField, raw)
}

func (s *stage) row(stream int, number uint64, field string, raw []byte) error {
	s.entries[stream-1] = append(s.entries[stream-1], []any{"XADD", s.aside[stream], fmt.Sprintf("%d-0", number), field, raw})
	s.counts[stream]++
	return s.added(len(raw))
}

func (s *stage) added(bytes int) error {
	if s.size += bytes; s.size < stageBytes {
		return nil
	}
	return s.flush()
}

func (s *stage) flush() error {
	err := s.client.OnMaster(s.ctx, s.keys.Head, func(conn *redis.Conn) error {
		_, err := conn.Pipelined(s.ctx, func(pipe redis.Pipeliner) error {
			if len(s.documents) > 0 {
				pipe.HSet(s.ctx, s.aside[0], s.documents...)
			}
			for _, commands := range s.entries {
				for _, command := range commands {
					pipe.Do(s.ctx, command...)
				}
			}
			return nil
		})
		return err
	})
	s.documents, s.entries, s.size = nil, [2][][]any{}, 0
	return err
}

// headKey is what the key of a head holds: its type in Redis's words ("none" for a missing key), and the
// value of a string.
type headKey struct {
	kind string
	raw  []byte
}

// swap replaces the partition with the staged one, if the key of the head still holds what was expected.
func (s *stage) swap(expected headKey, head []byte) error {
	keys := []string{s.keys.Head, s.keys.Policies, s.keys.Log, s.keys.Audit, s.aside[0], s.aside[1], s.aside[2]}
	var answer string
	err := s.client.OnMaster(s.ctx, s.keys.Head, func(conn *redis.Conn) (err error) {
		answer, err = conn.Eval(s.ctx, swapScript, keys, expected.kind, expected.raw, head, s.counts[0], s.counts[1],
			s.counts[2]).Text()
		return err
	})
	switch {
	case err != nil:
		return err
	case answer == "CONFLICT":
		return errChanged
	case answer != "OK":
		return errors.New("redis refused it: " + answer)
	}
	return nil
}

// discard removes the temporary keys, also when the context has ended.
func (s *stage) discard() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), discardTimeout)
	defer cancel()
	_ = s.client.Unlink(ctx, s.aside[:]...).Err() // the next run removes what is left
}
