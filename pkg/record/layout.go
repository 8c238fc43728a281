package record

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// MaxPartitions is the most partitions a store can have; DefaultPartitions is what a new one gets, and
// spreads evenly over the slots of 3, 6 or 12 masters of a Redis Cluster.
const (
	MaxPartitions     = 256
	DefaultPartitions = 64
)

// MetaKey holds the store's Meta.
const MetaKey = "cs:meta"

// Keys are the names of one partition's keys. All share one hash tag, so that on a Redis Cluster they are
// in one slot and a script may touch them together (Redis Cluster specification, hash tags).
type Keys struct {
	Head     string // string: a Head
	Policies string // hash: app_id to Document
	Log      string // stream of Link, id <revision>-0
	Audit    string // stream of AuditRow, id <sequence>-0
	Hint     string // channel: each Link as it is committed
	tag      string
}

// KeysOf returns the names of a partition's keys.
func KeysOf(partition int) Keys {
	tag := fmt.Sprintf("cs:{cs%02d}:", partition)
	return Keys{
		Head:     tag + "head",
		Policies: tag + "policies",
		Log:      tag + "log",
		Audit:    tag + "audit",
		Hint:     tag + "hint",
		tag:      tag,
	}
}

// Request returns the key of a request result. The parts are hashed together, so that no identity, method,
// app or id can be written to look like another.
func (k Keys) Request(identity, method, appID, requestID string) string {
	h := sha256.New()
	for _, part := range []string{identity, method, appID, requestID} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return k.tag + "request:" + hex.EncodeToString(h.Sum(nil)[:16])
}

// PartitionOfHint returns the partition that a hint channel belongs to.
func PartitionOfHint(channel string) (int, error) {
	var partition int
	if _, err := fmt.Sscanf(channel, "cs:{cs%d}:hint", &partition); err != nil || !strings.HasSuffix(channel, ":hint") ||
		partition < 0 || partition >= MaxPartitions || KeysOf(partition).Hint != channel {
		return 0, fmt.Errorf("%w: %q is not a hint channel", ErrMalformed, channel)
	}
	return partition, nil
}
