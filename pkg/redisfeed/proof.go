package redisfeed

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// ErrNotProven says that what a server answered may be older than the store: it did not show itself to be a
// master with as many replicas in contact as Options.WriteQuorum asks for.
var ErrNotProven = errors.New("the server is not known to be the master")

const (
	// maxLag is how many seconds ago a replica in contact with its master has last said so; it does every
	// second.
	maxLag = 2
	// proofAge is how long a proof makes the next one believable.
	proofAge = time.Second
	// proofPause lets a server get on with what it has to do between two proofs in a row.
	proofPause = 10 * time.Millisecond
)

// exchange sends commands to one server in one pipeline, and with a write quorum proves in the same one
// that the server is the master. An error means that none of the answers counts. A command's own error is
// Redis's answer to it, and for the caller to look at.
//
// A master that was stopped and goes on first reads what its replicas had sent before they left it, and
// counts them as in contact for a moment. So a proof counts only when the one before it was not long ago:
// after a silence it takes two.
func (c *Client) exchange(ctx context.Context, p *pool, s *server, commands ...redis.Cmder) error {
	if c.options.WriteQuorum == 0 {
		return c.pipeline(ctx, p, s, commands)
	}
	for range 2 {
		info := redis.NewStringCmd(ctx, "info", "replication")
		if err := c.pipeline(ctx, p, s, append(slices.Clip(commands), info)); err != nil {
			return err
		}
		now := time.Now()
		if info.Err() != nil || !isMaster(info.Val(), c.options.WriteQuorum) {
			s.proven.Store(nil)
			c.topology.suspect()
			return errors.Join(ErrNotProven, info.Err())
		}
		if last := s.proven.Swap(&now); last != nil && now.Sub(*last) < proofAge {
			return nil
		}
		time.Sleep(proofPause)
	}
	return ErrNotProven
}

// pipeline sends commands in one pipeline; it fails when they have no answers.
func (c *Client) pipeline(ctx context.Context, p *pool, s *server, commands []redis.Cmder) error {
	s.asks()
	_, err := s.Pipelined(ctx, func(pipe redis.Pipeliner) error { return pipe.BatchProcess(ctx, commands...) })
	none := err != nil
	for _, command := range commands {
		if failed := command.Err(); failed == nil {
			continue
		} else if none = false; !answered(failed) {
			err = failed
			break
		} else {
			c.topology.learn(s.address, failed)
		}
	}
	if !none && answered(err) {
		err = nil
	}
	p.heard(s, err)
	c.topology.learn(s.address, err)
	return err
}

// isMaster tells whether INFO says that the server is a master with enough replicas in contact (Redis, INFO:
// replication).
func isMaster(info string, replicas int) bool {
	master := false
	for line := range strings.Lines(info) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		number, isReplica := strings.CutPrefix(key, "slave")
		switch {
		case key == "role":
			master = value == "master"
		case isReplica && isNumber(number) && inContact(value):
			replicas--
		}
	}
	return master && replicas <= 0
}

func isNumber(text string) bool {
	_, err := strconv.Atoi(text)
	return err == nil
}

// inContact reads a replica's state: ip=...,port=...,state=online,offset=...,lag=1.
func inContact(state string) bool {
	fields := strings.Split(state, ",")
	i := slices.IndexFunc(fields, func(field string) bool { return strings.HasPrefix(field, "lag=") })
	if i < 0 || !slices.Contains(fields, "state=online") {
		return false
	}
	lag, err := strconv.Atoi(strings.TrimPrefix(fields[i], "lag="))
	return err == nil && lag >= 0 && lag <= maxLag
}
