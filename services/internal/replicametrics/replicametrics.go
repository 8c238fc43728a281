// Package replicametrics exports how a replica follows its store as Prometheus metrics. Validators and
// authorities export the same ones; docs/operations.md says what to do about each. This package is not part
// of the public API and may change in any release.
package replicametrics

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersign/countersign/pkg/replica"
)

// Collector reads the current replica at each scrape. It is safe for concurrent use.
type Collector struct{ current func() *replica.Replica }

// New returns a collector. current returns the replica to read; nil while there is none.
func New(current func() *replica.Replica) *Collector { return &Collector{current} }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("countersign_"+name, help, labels, nil)
}

// states are the values of the label state.
var states = []string{"FRESH", "STALE", "NOT_LOADED"}

var (
	dataAge = describe("data_age_seconds",
		"Time since the data of the oldest partition was known to be complete; below 1 in normal operation. "+
			"0 until everything is loaded.")
	partitions = describe("partitions",
		"Partitions by the state of their data: FRESH (at most 2 s old), STALE, NOT_LOADED.", "state")
	epoch    = describe("partition_epoch", "Epoch of a partition.", "partition")
	revision = describe("partition_revision", "Revision that a partition has reached.", "partition")
	missing  = describe("missing_apps", "Apps that had a policy and that the store has lost; they are undecided.")
	forked   = describe("forked_partitions",
		"Partitions whose store denies what was confirmed before; their last good data decides.")
	orphans = describe("orphaned_changes", "Changes that the replica holds and the store has lost.")
	sticky  = describe("sticky_tokens", "Tokens that stay revoked although the store says otherwise.")
	damaged = describe("undecidable_documents",
		"Documents in the store that cannot be verified; an older policy decides for their apps, or none.")

	failures = describe("partitions_in_trouble",
		"Partitions whose latest load failed, by cause: type (a key holds something of another type), "+
			"head (missing or not verified), log, digest (the documents do not add up to the head), fork, "+
			"unhealed (just restored) or other (not readable).", "cause")
	strays = describe("stray_fields_total",
		"Fields of the policies that are not policies of the store, and are left out; each load counts them again.")

	polls        = describe("polls_total", "Polls, which read all heads of the store.")
	pollFailures = describe("poll_failures_total", "Polls of the store that failed.")
	hints        = describe("hints_total",
		"Changes that were published, by outcome: applied at once, ignored (known, or left to a read of the log) "+
			"or bad (not verified).", "outcome")
	catchUps = describe("catch_ups_total", "Reads of a partition's log.")
	resyncs  = describe("resyncs_total",
		"Loads of whole partitions, by cause: start, gap, digest, torn, undo, epoch or repair.", "cause")
	mismatches  = describe("digest_mismatches_total", "How often a partition's data did not add up to the store's digest.")
	quarantined = describe("quarantined_records_total",
		"Records that were rejected, by cause: bad (damaged, forged or out of place) or unknown_key (signed with a key "+
			"that is not in the key ring).", "cause")
	forks   = describe("forks_total", "How often the store began to deny what was confirmed before.")
	refused = describe("refused_epochs_total", "Heads of an epoch that was over.")
)

// Describe implements prometheus.Collector.
func (c *Collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		dataAge, partitions, epoch, revision, missing, forked, orphans, sticky, damaged, failures, strays,
		polls, pollFailures, hints, catchUps, resyncs, mismatches, quarantined, forks, refused,
	} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	count := func(d *prometheus.Desc, value uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
	}
	r := c.current()
	if r == nil {
		gauge(dataAge, 0)
		return
	}
	c.collectPartitions(r, gauge)
	s := r.Stats()
	gauge(forked, float64(s.Forked))
	gauge(missing, float64(s.Missing))
	gauge(orphans, float64(s.Orphans))
	gauge(sticky, float64(s.Sticky))
	gauge(damaged, float64(s.Undecidable))
	for _, cause := range replica.AllLoadFailures {
		gauge(failures, float64(s.LoadFailures[cause]), cause)
	}
	count(strays, s.Strays)
	count(polls, s.Polls)
	count(pollFailures, s.PollFailures)
	count(hints, s.HintsApplied, "applied")
	count(hints, s.HintsIgnored, "ignored")
	count(hints, s.HintsBad, "bad")
	count(catchUps, s.CatchUps)
	for cause, n := range s.Reloads {
		count(resyncs, n, cause)
	}
	count(mismatches, s.DigestMismatches)
	count(quarantined, s.Quarantined-min(s.UnknownKeys, s.Quarantined), "bad")
	count(quarantined, s.UnknownKeys, "unknown_key")
	count(forks, s.Forks)
	count(refused, s.RefusedEpochs)
}

func (c *Collector) collectPartitions(r *replica.Replica, gauge func(*prometheus.Desc, float64, ...string)) {
	in := map[string]int{}
	var oldest time.Duration
	now := time.Now()
	for i, at := range r.Cursors() {
		if r.Table().Partition(i) == nil {
			in["NOT_LOADED"]++
			continue
		}
		age, stale := r.Freshness(i, now)
		oldest = max(oldest, age)
		if stale {
			in["STALE"]++
		} else {
			in["FRESH"]++
		}
		number := strconv.Itoa(i)
		gauge(epoch, float64(at.Epoch), number)
		gauge(revision, float64(at.Revision), number)
	}
	for _, state := range states {
		gauge(partitions, float64(in[state]), state)
	}
	if !r.Loaded() {
		oldest = 0
	}
	gauge(dataAge, oldest.Seconds())
}
