package management

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/apierr"
)

// maxTTL is the longest time from a change to an end that it sets: 36,500 days.
const maxTTL = 36_500 * 24 * time.Hour

// end is when a token or a trial ends by itself: at a time, or a duration after the change that sets it. The
// zero value means never.
type end struct {
	millis int64
	ttl    *time.Duration
}

// endOf reads an optional end from two fields. A request may set one of them.
func endOf(timeField string, at *timestamppb.Timestamp, ttlField string, ttl *durationpb.Duration) (end, error) {
	millis, err := millisOf(timeField, at)
	if err != nil || ttl == nil {
		return end{millis: millis}, err
	}
	after := ttl.AsDuration()
	switch {
	case at != nil:
		return end{}, apierr.Invalid(ttlField, "want this or %s, not both", timeField)
	case ttl.CheckValid() != nil || after < 0 || after > maxTTL || after%time.Millisecond != 0:
		return end{}, apierr.Invalid(ttlField, "want 0 to %d days, in whole milliseconds", int(maxTTL.Hours()/24))
	}
	return end{ttl: &after}, nil
}

// at returns the end for a change that is made now, in milliseconds since the Unix epoch; 0 is never.
func (e end) at(now time.Time) int64 {
	if e.ttl != nil {
		return now.Add(*e.ttl).UnixMilli()
	}
	return e.millis
}
