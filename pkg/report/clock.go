package report

import (
	"time"

	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

const (
	// MaxSkew is how far a validator's time of day may be from its authority's. Beyond it people are told,
	// and a receipt of a change that has a time names the validator.
	MaxSkew = time.Second
	// skewAlarmPause is the least time between two lines in a log that say that one clock is off.
	skewAlarmPause = time.Minute
	// maxRoundTrip is the longest exchange that a clock is measured by: half of it is how wrong the result
	// may be.
	maxRoundTrip = MaxSkew / 2
)

// SkewWords says in words how far a clock is ahead of another one, or behind.
func SkewWords(ahead time.Duration) string {
	unit := time.Millisecond
	if ahead.Abs() >= 10*time.Second {
		unit = time.Second
	}
	if ahead < 0 {
		return ahead.Abs().Round(unit).String() + " behind"
	}
	return ahead.Round(unit).String() + " ahead"
}

// SkewAlarm tells when a clock that is off is worth a line in a log. The zero value is ready.
type SkewAlarm struct {
	off  bool
	said time.Time
}

// Check takes in how far a clock is ahead. Warn says that it is off and that this was not said within a
// minute, over that it was said and is over.
func (a *SkewAlarm) Check(ahead time.Duration, now time.Time) (warn, over bool) {
	if ahead.Abs() <= MaxSkew {
		over, a.off = a.off, false
		return false, over
	}
	if !a.said.IsZero() && now.Sub(a.said) < skewAlarmPause {
		return false, false
	}
	a.off, a.said = true, now
	return true, false
}

// heartbeat is a report that the authority answers at once.
type heartbeat struct {
	sequence uint64
	sent     time.Time
}

// addClock adds what the clocks show, just before a report is sent.
func (s *session) addClock(m *countersignv1.ReportRequest) {
	now := time.Now()
	m.Clock = record.Clock{Wall: s.config.WallClock.At(now), Monotonic: now.Sub(s.running)}.ToProto()
	if m.GetDataAge() != nil {
		s.heartbeat.Store(&heartbeat{m.GetSequence(), now})
	}
}

// compareClocks compares the time of day with the authority's, by an answer to the latest heartbeat: the
// authority read its clock between the sending and the arrival.
func (s *session) compareClocks(m *countersignv1.ReportResponse) {
	now, beat := time.Now(), s.heartbeat.Load()
	if !m.GetWallTime().IsValid() || beat == nil || m.GetReceived() != beat.sequence {
		return
	}
	took := now.Sub(beat.sent)
	if took > maxRoundTrip {
		return
	}
	ahead := s.config.WallClock.At(now).Add(-took / 2).Sub(m.GetWallTime().AsTime())
	s.skew.Store(&ahead)
	switch warn, over := s.alarm.Check(ahead, now); {
	case warn:
		s.config.Log.Warn("this machine's time of day is not the authority's: tokens expire and trials end early or late here; set the clock (NTP) of the one that is wrong",
			"clock", SkewWords(ahead))
	case over:
		s.config.Log.Info("this machine's time of day is the authority's again")
	}
}

// ClockSkew returns how far the validator's time of day is ahead of the authority's, to within a quarter of
// a second; false while that is not known.
func (r *Reporter) ClockSkew() (ahead time.Duration, known bool) {
	if skew := r.skew.Load(); skew != nil {
		return *skew, true
	}
	return 0, false
}
