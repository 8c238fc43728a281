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

// Redis is a store's access to Redis: one server, a Sentinel group or a Cluster. Reads return what the master
// of a partition has at the time of the call. Implementations must be safe for concurrent use and return when
// ctx ends.
//
// Errors are of three kinds. After ErrNotRun nothing was written, and a retry may succeed. After ErrRefused
// nothing was written, and a retry would fail too. After any other error of Commit and Begin the outcome is
// unknown: the script may have run, or may still run.
type Redis interface {
	// Look reads a partition's head, an app's document and a request's result, in this order, in one round
	// trip. It skips an empty app or key. Missing values are nil.
	Look(ctx context.Context, partition int, appID, requestKey string) (Look, error)
	// Tail and Documents are as in replica.Source.
	Tail(ctx context.Context, partition int, after uint64, limit int) (head []byte, entries []record.RawEntry, err error)
	Documents(ctx context.Context, partition int, each func(appID string, raw []byte)) error
	// Keep writes a request's result for RequestLife, unless the key exists.
	Keep(ctx context.Context, requestKey string, result []byte) error
	// Commit makes a change, all or nothing.
	Commit(ctx context.Context, c *Commit) (Reply, error)
	// Begin begins an epoch, all or nothing, also when Redis is out of memory. Without entries it only adds
	// audit rows.
	Begin(ctx context.Context, b *Beginning) (Reply, error)
	// PutMeta writes the store's meta, unless the key exists.
	PutMeta(ctx context.Context, raw []byte) error
}

var (
	// ErrNotRun says that nothing was written because the partition's master could not be reached or is about
	// to change. The call may be repeated.
	ErrNotRun = errors.New("redis did not carry it out")
	// ErrRefused says that nothing was written, for a reason that does not pass by itself.
	ErrRefused = errors.New("redis refused it")
)

// Look is the result of Redis.Look.
type Look struct{ Head, Document, Result []byte }

// Commit is everything that the commit of one change writes. A repeated Commit is identical to the byte, so
// that the change cannot be made twice.
type Commit struct {
	Partition int
	AppID     string
	// Expected is the head that the change was computed from.
	Expected, Head []byte
	// Cursor names the change.
	Cursor         record.Cursor
	Link, Document []byte
	// change is the decoded Link.
	change *record.Link
	Audit  AuditRow
	// RequestKey is the key under which Result is kept for RequestLife; empty for none.
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

// Beginning is everything that the start of an epoch writes.
type Beginning struct {
	Partition int
	// Expected is the head that the epoch was computed from. When it is nil, the partition must have no keys.
	Expected, Head []byte
	// Entries are the start of the epoch and the links after it. Without entries the partition does not
	// change.
	Entries []record.RawEntry
	Audit   []AuditRow
	// Documents are the documents that the links made.
	Documents []RawDocument
}

// RawDocument is a signed document.
type RawDocument struct {
	AppID string
	Data  []byte
}

// Reply is the answer of Redis to a Commit or a Beginning.
type Reply struct {
	// Answer is Made, Conflict, or a word that says why nothing was written.
	Answer string
	// Acknowledged is how many Redis replicas confirmed the write in time. It is 0 when that is unknown, or
	// when WriteQuorum is 0.
	Acknowledged int
}

// Made and Conflict are the regular answers of the scripts. After Conflict nothing was written, because the
// head is not the expected one.
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

// allowOOM lets a script write when Redis is out of memory, so that a full Redis can still revoke and heal
// (Redis, Scripting: script flags).
const allowOOM = "#!lua flags=allow-oom\n"

// waitSlack is how much longer than QuorumTimeout the answer to WAIT may take.
const waitSlack = time.Second

// server is the Redis behind a client.
type server struct {
	client  *redisfeed.Client
	feed    *redisfeed.Feed
	options Options
}

// Over returns the Redis of a store with a number of partitions. The caller closes the client.
func Over(client *redisfeed.Client, partitions int, options Options) Redis {
	return &server{client: client, feed: redisfeed.New(client, partitions), options: options}
}

// keysOf returns the keys of a partition for a script. A script may only use keys of one slot (Redis Cluster
// specification). A key of another slot is a bug in this package.
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

// hashTag returns the part of a key that decides its slot.
func hashTag(key string) string {
	_, rest, _ := strings.Cut(key, "{")
	if tag, _, closed := strings.Cut(rest, "}"); closed && tag != "" {
		return tag
	}
	return key
}

// Look implements Redis. Both commands use one connection: if another server answered the second one, the
// document could be older than the head.
func (r *server) Look(ctx context.Context, partition int, appID, requestKey string) (found Look, err error) {
	head := record.KeysOf(partition).Head
	err = r.client.OnMaster(ctx, head, func(conn *redis.Conn) error {
		pipe := conn.Pipeline()
		read := look(ctx, pipe, partition, appID, requestKey)
		// Exec returns the error of the first failed command. read reports that error too.
		_, failed := pipe.Exec(ctx)
		found, err = read()
		if err == nil && !errors.Is(failed, redis.Nil) {
			err = failed
		}
		return err
	})
	if kind, _, _ := strings.Cut(fmt.Sprint(err), " "); kind == "ASK" {
		// During a slot migration each key is at one of two servers. Single commands still read in order.
		found, err = look(ctx, r.client, partition, appID, requestKey)()
	}
	return found, reading(err)
}

// look sends or queues the commands of a Look. The returned function reads their answers.
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

// bytesOf returns the answer of a command; nil for a missing key.
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

// Keep implements Redis. It is idempotent.
func (r *server) Keep(ctx context.Context, requestKey string, result []byte) error {
	return reading(r.client.OnMaster(ctx, requestKey, func(conn *redis.Conn) error {
		return conn.SetNX(ctx, requestKey, result, RequestLife).Err()
	}))
}

// PutMeta implements Redis. It is idempotent.
func (r *server) PutMeta(ctx context.Context, raw []byte) error {
	return reading(r.client.OnMaster(ctx, record.MetaKey, func(conn *redis.Conn) error {
		err := conn.SetArgs(ctx, record.MetaKey, raw, redis.SetArgs{Mode: "NX"}).Err()
		if errors.Is(err, redis.Nil) {
			return nil // the key exists
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

// run runs a script once on the master of its keys. On the same connection it then waits for the wanted
// number of replicas, because WAIT counts the writes of its own connection (Redis, WAIT).
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
		err = nil // Redis has answered, so a later failure of the connection does not matter
	}
	return reply, writing(err)
}

// wait returns how many replicas have confirmed the writes of a connection.
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

// writing classifies the error of a script.
//
// Redis rejects a command before it runs in two cases. The slot of its keys is on another server, is moving,
// or is not served (MOVED, ASK, TRYAGAIN, CLUSTERDOWN). Or the server accepts no command at this time
// (LOADING, MASTERDOWN, BUSY, too many clients). READONLY, NOREPLICAS, OOM and MISCONF reject the first write
// of a script, never a later one, because their causes do not change while a script runs. After any other
// error inside a script, its earlier writes may have run. A command that was never sent did not run. A
// command on a broken connection may have run.
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

// reading classifies the error of a read or of an idempotent command. Such a command can always be repeated.
func reading(err error) error {
	if err = writing(err); err == nil || errors.Is(err, ErrNotRun) || errors.Is(err, ErrRefused) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrNotRun, err)
}
