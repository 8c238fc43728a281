package ledger

import (
	"hash/fnv"
	"time"
)

// account has all counts of one app. The three blocks add up, whatever periods they have, so that a reader
// needs no clock to be right.
type account struct {
	// running has the counts by hour that were not moved yet: of the running hour and mostly the one before.
	running block
	// hours has the counts by hour, and days the same counts by day, after they were moved out of running.
	hours, days block
}

const (
	// lateCounts is how long after its end an hour stays in running at least, so that counts that come late
	// do not change the large blocks once more.
	lateCounts = 5 * time.Minute
	// moveSpread spreads the moves of all apps over the time after that.
	moveSpread = 45 * time.Minute
)

// firstRunning returns the hour from which on an app's counts stay in running.
func firstRunning(appID string, now time.Time) int64 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(appID))
	late := lateCounts + time.Duration(h.Sum32())*time.Microsecond%moveSpread
	return hourOf(now.Add(-late))
}

func hourOf(t time.Time) int64 { return floorDiv(t.Unix(), 3600) }

func dayOf(t time.Time) int64 { return floorDiv(hourOf(t), hoursOfDay) }

// moves reports whether running has counts of hours before one, which settle moves.
func (b block) moves(first int64) bool {
	for _, s := range b {
		if len(s.points) == 0 || s.points[0].period < first {
			return true
		}
	}
	return false
}

// settle moves the hours before first out of running. It drops what is older than Hours and Days, except the
// last use of a token that has returns true for.
func (a account) settle(first int64, has func(tokenID string) bool) account {
	past, running := a.running.cut(first)
	none := func(Kind) bool { return false }
	return account{
		running: running,
		hours:   a.hours.plus(past).without(first-Hours, none),
		days: a.days.plus(past.byDay()).without(floorDiv(first, hoursOfDay)-Days, func(k Kind) bool {
			return k.TokenID != "" && has(k.TokenID)
		}),
	}
}
