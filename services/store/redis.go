package store

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
)

// Redis is what a Store does with the Redis that it writes, be it one server, a Sentinel group or a
// Cluster. What it reads is what the master of a partition has at the time of the call. It must be safe for
// concurrent use and return when ctx ends.
//
// Its errors are of three kinds. ErrNotRun: nothing was written, for a reason that passes. ErrRefused:
// nothing was written, and another try would fare no better. After any other one of Commit and Begin nobody
// knows: what was sent may have been carried out, or may still be.
type Redis interface {
	// Look reads a partition's head, an app's document and a request's result, in this order, in one round
	// trip. An empty app or key is not looked at. What is missing is nil.
	Look(ctx context.Context, partition int, appID, requestKey string) (Look, error)
	// Tail and Documents are those of a replica.Source.
	Tail(ctx context.Context, partition int, after uint64, limit int) (head []byte, entries []record.RawEntry, err error)
	Documents(ctx context.Context, partition int, each func(appID string, raw []byte)) error
	// Keep writes a request's result for RequestLife, unless there is one.
	Keep(ctx context.Context, requestKey string, result []byte) error
	// Commit makes a change, all or nothing.
	Commit(ctx context.Context, c *Commit) (Reply, error)
	// Begin begins an epoch, all or nothing, also when Redis is out of memory. Without entries it only adds
	// audit rows.
	Begin(ctx context.Context, b *Beginning) (Reply, error)
	// PutMeta writes the store's meta, unless there is one.
	PutMeta(ctx context.Context, raw []byte) error
}

var (
	// ErrNotRun says that nothing was written, because the master of the partition could not be reached, or
	// is about to be another: the call may be repeated.
	ErrNotRun = errors.New("redis did not carry it out")
	// ErrRefused says that nothing was written, and why is not going to change by itself.
	ErrRefused = errors.New("redis refused it")
)

// Look is what one look at a partition has shown.
type Look struct{ Head, Document, Result []byte }

// Commit is everything that the commit of one change writes. Sent again, it is the same to the byte, so
// that it cannot be made twice.
type Commit struct {
	Partition int
	AppID     string
	// Expected is the head that the change was computed from.
	Expected, Head []byte
	// Cursor is that of the change.
	Cursor         record.Cursor
	Link, Document []byte
	// change is what Link opens as.
	change *record.Link
	Audit  AuditRow
	// RequestKey is where Result is kept for RequestLife; empty: nowhere.
	RequestKey string
	Result     []byte
	// Urgent makes the change also when Redis is out of memory.
	Urgent bool
}

// AuditRow is one row of the audit trail.
type AuditRow struct {
	Sequence uint64
	Data     []byte
}

// Beginning is everything that the beginning of an epoch writes.
type Beginning struct {
	Partition int
	// Expected is the head that it was computed from; nil: there must be nothing of the partition.
	Expected, Head []byte
	// Entries are the start of the epoch and the links that follow it; none: the partition does not change.
	Entries []record.RawEntry
	Audit   []AuditRow
	// Documents are those that the links made.
	Documents []RawDocument
}

// RawDocument is a signed document.
type RawDocument struct {
	AppID string
	Data  []byte
}

// Reply is what Redis said to a Commit or a Beginning.
type Reply struct {
	// Answer is Made, Conflict, or in a word why nothing was written.
	Answer string
	// Acknowledged is how many replicas have confirmed what was written, within the time that they had; 0
	// when it is not known, or was not asked.
	Acknowledged int
}

// The answers. Conflict says that nothing was written, since the head is not the expected one.
const (
	Made     = "OK"
	Conflict = "CONFLICT"
)

var (
	//go:embed checks.lua
	checks string
	//go:embed commit.lua
	commitScript string
	//go:embed begin.lua
	beginScript string
)

// allowOOM lets a script write when Redis is out of memory, so that a full Redis can still revoke, and heal
// (Redis, Scripting: script flags).
const allowOOM = "#!lua flags=allow-oom\n"

// waitSlack is how much longer than QuorumTimeout the answer to a WAIT may take.
const waitSlack = time.Second

// server is the Redis behind a client.
type server struct {
	client  *redisfeed.Client
	feed    *redisfeed.Feed
	options Options
}

// Over returns the Redis of a store with a number of partitions. The client stays the caller's to close.
func Over(client *redisfeed.Client, partitions int, options Options) Redis {
	return &server{client: client, feed: redisfeed.New(client, partitions), options: options}
}

// keysOf returns the keys of a partition for a script, which may touch those of one slot only (Redis Cluster
// specification). A key of another slot is a mistake in this package.
func keysOf(partition int, more ...string) []string {
	names := record.KeysOf(partition)
	keys := append([]string{names.Head, names.Policies, names.Log, names.Audit}, more...)
	for _, key := range keys {
		if hashTag(key) != hashTag(names.Head) {
			panic(fmt.Sprintf("store: %s is not in the slot of partition %d", key, partition))
		}
	}
	return keys
}

// hashTag returns what decides about a key's slot.
func hashTag(key string) string {
	_, rest, _ := strings.Cut(key, "{")
	if tag, _, closed := strings.Cut(rest, "}"); closed && tag != "" {
		return tag
	}
	return key
}

// Look implements Redis. The commands stay on one connection: were the second answered by another server
// than the first, the document might be older than the head.
func (r *server) Look(ctx context.Context, partition int, appID, requestKey string) (found Look, err error) {
	head := record.KeysOf(partition).Head
	err = r.client.OnMaster(ctx, head, func(conn *redis.Conn) error {
		pipe := conn.Pipeline()
		read := look(ctx, pipe, partition, appID, requestKey)
		// The error is that of the first command that failed, and looked at with that one.
		_, failed := pipe.Exec(ctx)
		found, err = read()
		if err == nil && !errors.Is(failed, redis.Nil) {
			err = failed
		}
		return err
	})
	if kind, _, _ := strings.Cut(fmt.Sprint(err), " "); kind == "ASK" {
		// While the slot is moved, each of its keys is at one of two servers. One after the other, they are
		// still read in order.
		found, err = look(ctx, r.client, partition, appID, requestKey)()
	}
	return found, reading(err)
}

// look sends, or lines up, the commands of a Look; the function that it returns reads their answers.
func look(ctx context.Context, to redis.Cmdable, partition int, appID, requestKey string) func() (Look, error) {
	keys := record.KeysOf(partition)
	var document, request *redis.StringCmd
	head := to.Get(ctx, keys.Head)
	if appID != "" {
		document = to.HGet(ctx, keys.Policies, appID)
	}
	if requestKey != "" {
		request = to.Get(ctx, requestKey)
	}
	return func() (found Look, err error) {
		for cmd, raw := range map[*redis.StringCmd]*[]byte{head: &found.Head, document: &found.Document, request: &found.Result} {
			if *raw, err = bytesOf(cmd); err != nil {
				return Look{}, err
			}
		}
		return found, nil
	}
}

// bytesOf returns the answer to a command that was sent, nil for a key that is not there.
func bytesOf(cmd *redis.StringCmd) ([]byte, error) {
	if cmd == nil {
		return nil, nil
	}
	raw, err := cmd.Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if redisfeed.IsWrongType(err) {
		want := "string"
		if cmd.Name() == "hget" {
			want = "hash"
		}
		err = redisfeed.Typed(fmt.Sprint(cmd.Args()[1]), want, err)
	}
	return raw, err
}

// Tail implements Redis.
func (r *server) Tail(ctx context.Context, partition int, after uint64, limit int) ([]byte, []record.RawEntry, error) {
	head, entries, err := r.feed.Tail(ctx, partition, after, limit)
	return head, entries, reading(err)
}

// Documents implements Redis.
func (r *server) Documents(ctx context.Context, partition int, each func(appID string, raw []byte)) error {
	return reading(r.feed.Documents(ctx, partition, each))
}

// Keep implements Redis. Carried out twice it does the same.
func (r *server) Keep(ctx context.Context, requestKey string, result []byte) error {
	return reading(r.client.OnMaster(ctx, requestKey, func(conn *redis.Conn) error {
		return conn.SetNX(ctx, requestKey, result, RequestLife).Err()
	}))
}

// PutMeta implements Redis. Carried out twice it does the same.
func (r *server) PutMeta(ctx context.Context, raw []byte) error {
	return reading(r.client.OnMaster(ctx, record.MetaKey, func(conn *redis.Conn) error {
		err := conn.SetArgs(ctx, record.MetaKey, raw, redis.SetArgs{Mode: "NX"}).Err()
		if errors.Is(err, redis.Nil) {
			return nil // there is one
		}
		return err
	}))
}

// Commit implements Redis.
func (r *server) Commit(ctx context.Context, c *Commit) (Reply, error) {
	names := record.KeysOf(c.Partition)
	keys := keysOf(c.Partition)
	if c.RequestKey != "" {
		keys = keysOf(c.Partition, c.RequestKey)
	}
	return r.run(ctx, commitScript, c.Urgent, keys,
		c.Expected, c.Head, c.Cursor.Revision, c.Link, c.AppID, c.Document, c.Audit.Sequence, c.Audit.Data, names.Hint,
		LogLength, c.Result, int(RequestLife/time.Second))
}

// Begin implements Redis.
func (r *server) Begin(ctx context.Context, b *Beginning) (Reply, error) {
	args := []any{b.Expected, b.Head, LogLength, len(b.Entries), len(b.Audit), len(b.Documents)}
	for _, entry := range b.Entries {
		field := redisfeed.LinkField
		if entry.EpochStart {
			field = redisfeed.EpochField
		}
		args = append(args, entry.Revision, field, entry.Data)
	}
	for _, row := range b.Audit {
		args = append(args, row.Sequence, row.Data)
	}
	for _, document := range b.Documents {
		args = append(args, document.AppID, document.Data)
	}
	return r.run(ctx, beginScript, true, keysOf(b.Partition), args...)
}

// run runs a script on the master of its keys, and waits on the same connection for as many replicas as are
// wanted: WAIT is about what its own connection has written (Redis, WAIT). It is sent once, whatever
// becomes of it.
func (r *server) run(ctx context.Context, script string, urgent bool, keys []string, args ...any) (reply Reply, err error) {
	text := checks + script
	if urgent && !r.options.Embedded {
		text = allowOOM + text
	}
	err = r.client.OnMaster(ctx, keys[0], func(conn *redis.Conn) error {
		reply = Reply{}
		answer, err := conn.Eval(ctx, text, keys, args...).Text()
		if err != nil {
			return err
		}
		reply.Answer = answer
		if answer == Made && r.options.WriteQuorum > 0 {
			reply.Acknowledged = r.wait(ctx, conn)
		}
		return nil
	})
	if reply.Answer != "" {
		err = nil // it was answered, whatever became of the connection
	}
	return reply, writing(err)
}

// wait returns how many replicas have confirmed what a connection has written.
func (r *server) wait(ctx context.Context, conn *redis.Conn) int {
	timeout := r.options.quorumTimeout()
	ctx, cancel := context.WithTimeout(ctx, timeout+waitSlack)
	defer cancel()
	confirmed, err := conn.Wait(ctx, r.options.WriteQuorum, timeout).Result()
	if err != nil {
		return 0
	}
	return int(confirmed)
}

// writing tells what an error says of a script that was sent.
//
// Redis refuses a command before it runs it when the slot of its keys is elsewhere, on its way, or not
// served (MOVED, ASK, TRYAGAIN, CLUSTERDOWN), and when the server cannot serve anybody now (LOADING,
// MASTERDOWN, BUSY, too many clients). READONLY, NOREPLICAS, OOM and MISCONF are for the first write of a
// script and none after it, since their causes do not change while it runs. Any other error of a command
// inside a script says nothing of those before it. What was not even sent, since no connection could be
// made, was not run either; but one that broke may have carried it.
func writing(err error) error {
	if err == nil {
		return nil
	}
	var answer redis.Error
	switch {
	case redisfeed.NotRun(err):
		return fmt.Errorf("%w: %w", ErrNotRun, err)
	case !errors.As(err, &answer):
		return err
	}
	kind, _, _ := strings.Cut(answer.Error(), " ")
	switch {
	case kind == "NOREPLICAS", strings.HasPrefix(answer.Error(), "ERR max number of clients"):
		return fmt.Errorf("%w: %w", ErrNotRun, err)
	case kind == "OOM", kind == "MISCONF", !strings.Contains(answer.Error(), "script: "):
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return err
}

// reading tells what an error says of a command that changes nothing, or the same however often it is
// carried out.
func reading(err error) error {
	if err = writing(err); err == nil || errors.Is(err, ErrNotRun) || errors.Is(err, ErrRefused) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrNotRun, err)
}
