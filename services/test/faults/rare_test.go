package faults

import (
	"fmt"
	"slices"
	"strings"
)

// rarity is a state that a campaign reaches only by chance, and for which the product makes a promise. A
// recorded run must reach every such state, because otherwise the promise was not tested.
type rarity struct {
	name string
	// needs is a part of the name of the fault that causes the state. The state is required only when that
	// fault was inflicted.
	needs string
}

// after reports whether a fault can cause the state.
func (r rarity) after(fault string) bool { return strings.Contains(fault, r.needs) }

// The names of the states.
const (
	restoredBack   = "a restoration while writers ran lacked changes, and they were brought back"
	wipedRestored  = "a store was wiped after a restoration, and healed by itself"
	bothSides      = "both sides of a loss had changed an app, and the lost side was brought back"
	tornLost       = "a torn append-only file had lost acknowledged changes"
	snapshotLost   = "a server that keeps snapshots only had lost acknowledged changes"
	restartFound   = "a Redis that was started again had everything"
	stoppedLost    = "a receipt named a stopped validator LOST"
	stoppedFenced  = "a receipt was complete with a stopped validator FENCED"
	stoppedPending = "a receipt named a stopped validator PENDING"
	continuedOld   = "a validator that was continued decided from old data, and said so"
	continuedMute  = "a validator that was continued refused to decide from old data"
	skewNamed      = "a receipt named a validator whose clock is off"
	skewExpired    = "a validator whose clock is off took a token for expired, or for alive, that others did not"
	damageSeen     = "verify named a damaged record"
	damageHealed   = "a damaged record was made good without an operator"
	damageMended   = "a damaged record was mended"
	tornMended     = "a torn append-only file had left half a transaction, which was mended"
	damageRepaired = "a damaged record was made good by a restoration"
	wrongRepaired  = "a key of a wrong type was made good by a restoration"
	damageOutlived = "a validator was started while a record was damaged, and decided afterwards"
	blockedFollows = "a validator whose log was full and not read for seconds followed the store"
	blockedAnswers = "an authority whose log was full and not read for seconds answered"
	closedWentOn   = "a process whose log was closed had something to say, and went on"
	renewedServed  = "a process served a renewed certificate, and was not started for it"
	firstOutlived  = "a process outlived the certificate that it was started with, and was reached"
	badKept        = "a bad certificate was not used, and the one before it was served"
)

var rarities = []rarity{
	{restoredBack, "restored while writers run"},
	{wipedRestored, "wiped after a restoration"},
	{bothSides, "failover that loses writes"},
	{tornLost, "append-only file torn"},
	{snapshotLost, "back at its latest snapshot"},
	{restartFound, "all servers of a group restarted"},
	{stoppedLost, "validator stopped"},
	{stoppedFenced, "validator stopped"},
	{stoppedPending, "validator stopped"},
	{continuedOld, "validator stopped"},
	{continuedMute, "validator stopped"},
	{skewNamed, "clock set off"},
	{skewExpired, "clock set off"},
	{damageSeen, "record damaged"},
	{damageHealed, "record damaged"},
	{damageMended, "record damaged"},
	{tornMended, "append-only file torn"},
	{damageRepaired, "record damaged"},
	{wrongRepaired, "key of a wrong type"},
	{damageOutlived, "record damaged"},
	{blockedFollows, "log not read"},
	{blockedAnswers, "log not read"},
	{closedWentOn, "log closed"},
	{renewedServed, whatever},
	{firstOutlived, whatever},
	{badKept, whatever},
}

// whatever matches every fault: renewals of certificates go on beside all faults.
const whatever = ""

// reach counts a state.
func (s *stats) reach(what string) { s.count(s.reached, what) }

// unreached returns what a recorded run missed on all topologies: faults that were never inflicted, and rare
// states that were never reached.
func unreached(o options, runs []*summary) (missing []string) {
	var kinds []string
	total := totalOf(runs)
	for _, r := range runs {
		kinds = append(kinds, r.Topology)
	}
	var possible []string
	for _, l := range lanes {
		for _, f := range l.faults {
			if o.wants(f.name) && slices.ContainsFunc(kinds, f.fits) {
				possible = append(possible, f.name)
				if total[f.name] == 0 {
					missing = append(missing, fmt.Sprintf("fault %q", f.name))
				}
			}
		}
	}
	for _, r := range rarities {
		if slices.ContainsFunc(possible, r.after) && total[r.name] == 0 {
			missing = append(missing, fmt.Sprintf("state %q", r.name))
		}
	}
	return missing
}
