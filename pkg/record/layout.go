package record

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// MaxPartitions is the most partitions of a store. DefaultPartitions is how many a new store gets. 64
// partitions spread evenly over the slots of 3, 6 or 12 masters of a Redis Cluster.
const (
	MaxPartitions     = 256
	DefaultPartitions = 64
)

// MetaKey is the key of the store's Meta.
const MetaKey = "cs:meta"

// Keys are the names of one partition's keys. All share one hash tag, so a Redis Cluster keeps them in one
// slot and a script may use them together (Redis Cluster specification, hash tags).
type Keys struct {
	Head     string // string: a Head
	Policies string // hash: app_id to Document
	Log      string // stream of Link, id <revision>-0
	Audit    string // stream of AuditRow, id <sequence>-0
	Hint     string // channel: each Link when it is committed
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

// Request returns the key of a request result. It hashes the parts with their lengths, so no choice of
// identity, method, app or id collides with another.
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
