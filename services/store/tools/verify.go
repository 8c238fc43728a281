package tools

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/snapshot"
)

// Verified is the result of a verification.
type Verified struct {
	StoreID  string    `json:"storeId"`
	Totals   Totals    `json:"totals"`
	Findings []Finding `json:"findings"`
}

// Verify proves everything in the Redis: heads, documents, links, digests and audit trails. Keys that do not
// belong to the store are findings too.
func (t *Tools) Verify(ctx context.Context) (Verified, error) {
	codec, err := t.codec(ctx)
	if err != nil {
		return Verified{}, err
	}
	c := &checker{codec: codec}
	source := t.reader(codec)
	source.find = c.find
	if err := errors.Join(source.export(ctx, c), c.finish()); err != nil {
		return Verified{}, err
	}
	removable, left, err := t.strays(ctx, codec)
	if err != nil {
		return Verified{}, err
	}
	others := append(removable, left...)
	slices.SortFunc(others, byPlace)
	c.findings = append(c.findings, others...)
	if err := t.verifyFleet(ctx, codec, c.find); err != nil {
		return Verified{}, err
	}
	return Verified{StoreID: codec.StoreID(), Totals: c.totals, Findings: listed(c.findings)}, nil
}

// VerifyFile proves a backup, or a validator's snapshot.
func (t *Tools) VerifyFile(ctx context.Context, path string) (Verified, snapshot.Kind, error) {
	file, err := snapshot.Open(path, t.ring)
	if err != nil {
		return Verified{}, 0, err
	}
	defer file.Close()
	codec := record.NewCodec(t.ring, file.Meta())
	v := Verified{StoreID: codec.StoreID(), Findings: []Finding{}}
	if file.Kind() == snapshot.Backup {
		c := &checker{codec: codec}
		err := errors.Join(file.Backup(interruptible{ctx, c}), c.finish())
		v.Totals, v.Findings = c.totals, listed(c.findings)
		return v, file.Kind(), aboutFile(path, err)
	}
	err = file.Replicas(func(c replica.Contents) error {
		v.Totals.Partitions++
		v.Totals.Apps += uint64(len(c.Apps))
		v.Totals.Links += uint64(len(c.Links))
		v.Findings = append(v.Findings, checkReplica(codec, c)...)
		return ctx.Err()
	})
	return v, file.Kind(), aboutFile(path, err)
}

func aboutFile(path string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// checkReplica proves one partition of a validator's snapshot.
func checkReplica(codec *record.Codec, c replica.Contents) (findings []Finding) {
	keys := record.KeysOf(c.Partition)
	find := func(where, what string) { findings = append(findings, Finding{where, what}) }
	sum := c.Sum.Empty()
	for _, app := range c.Apps {
		sum = codec.Add(sum, c.Partition, app.ID, app.Entry.Revision)
		if app.Entry.Policy == nil {
			find(keys.Policies+" "+app.ID, "could not be verified")
		} else if app.Entry.Behind() {
			find(keys.Policies+" "+app.ID, fmt.Sprintf("could not be verified; there is an older one, of revision %d",
				app.Entry.PolicyRevision))
		}
	}
	if sum != c.Sum {
		find(keys.Policies, "the policies do not add up to their digest")
	}
	at := c.Base
	for _, raw := range c.Links {
		e, err := codec.OpenUnlabelled(c.Partition, raw)
		if err != nil || e.Previous != at {
			find(keys.Log, fmt.Sprintf("does not continue revision %d", at.Revision))
			return findings
		}
		at = e.Cursor
	}
	if at != c.Cursor {
		find(keys.Log, fmt.Sprintf("ends at %s, the policies are of %s", at, c.Cursor))
	}
	return findings
}

// interruptible stops a sink when a context ends.
type interruptible struct {
	ctx context.Context
	snapshot.Sink
}

// Document implements snapshot.Sink.
func (i interruptible) Document(appID string, raw []byte) error {
	if err := i.ctx.Err(); err != nil {
		return err
	}
	return i.Sink.Document(appID, raw)
}

// ofPartition matches the keys of a partition.
var ofPartition = regexp.MustCompile(`^cs:\{cs(\d{2,3})\}:(head|policies|log|audit|request:[0-9a-f]{32})$`)

// belongs reports whether a key belongs to a store with a number of partitions.
func belongs(key string, partitions int) bool {
	if key == record.MetaKey || key == record.FleetKey {
		return true
	}
	parts := ofPartition.FindStringSubmatch(key)
	if parts == nil {
		return false
	}
	number, err := strconv.Atoi(parts[1])
	return err == nil && number < partitions && fmt.Sprintf("%02d", number) == parts[1]
}
