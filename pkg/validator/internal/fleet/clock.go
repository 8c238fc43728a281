package fleet

import (
	"time"

	"github.com/countersign/countersign/pkg/clockskew"
	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// maxRoundTrip bounds the exchange that a clock is measured by: the result may be wrong by half of it.
const maxRoundTrip = clockskew.Max / 2

// heartbeat is a report that an authority answers at once.
type heartbeat struct {
	sequence uint64
	sent     time.Time
}

// addClock adds the readings of the clocks. It must be called just before the report is sent.
func (s *session) addClock(m *countersignv1.ReportRequest) {
	now := time.Now()
	m.Clock = record.Clock{Wall: s.config.WallClock.At(now), Monotonic: now.Sub(s.running)}.ToProto()
	if m.GetDataAge() != nil {
		s.heartbeat.Store(&heartbeat{m.GetSequence(), now})
	}
}

// compareClocks measures the clock skew from the answer to the latest heartbeat. The authority has read its
// clock between the heartbeat and the answer.
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
		s.config.Log.Warn(
			"this machine's time of day is not the authority's: tokens expire and trials end early or late here; "+
				"set the clock (NTP) of the one that is wrong",
			"clock", clockskew.Words(ahead),
		)
	case over:
		s.config.Log.Info("this machine's time of day is the authority's again")
	}
}

// ClockSkew returns how far the validator's time of day is ahead of the authority's, to within a quarter of
// a second. It returns false while the skew is unknown.
func (r *Reporter) ClockSkew() (ahead time.Duration, known bool) {
	if skew := r.skew.Load(); skew != nil {
		return *skew, true
	}
	return 0, false
}
