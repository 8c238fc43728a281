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

// ErrNotProven says that a server's answer may be older than the store: the server did not prove that it is a
// master with Options.WriteQuorum replicas in contact.
var ErrNotProven = errors.New("the server is not known to be the master")

const (
	// maxLag is the most seconds since a replica in contact last sent an acknowledgement; it sends one each
	// second.
	maxLag = 2
	// proofAge is how long a proof makes the next one credible.
	proofAge = time.Second
	// proofPause gives a server time for other work between two proofs in a row.
	proofPause = 10 * time.Millisecond
)

// exchange sends commands to one server in one pipeline. With a write quorum, the same pipeline proves that
// the server is the master. After an error none of the answers counts. A command's own error is Redis's
// answer to it, which the caller has to check.
//
// A master that was stopped and goes on first reads what its replicas sent before they left it, and for a
// moment counts them as in contact. So a proof counts only when an earlier proof is at most proofAge old:
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

// pipeline sends commands in one pipeline. It fails when their answers do not arrive.
func (c *Client) pipeline(ctx context.Context, p *pool, s *server, commands []redis.Cmder) error {
	s.noteSent()
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
	p.noteResult(s, err)
	c.topology.learn(s.address, err)
	return err
}

// isMaster reports whether the text of INFO describes a master with enough replicas in contact (Redis, INFO:
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
