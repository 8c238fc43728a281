package words

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// Ago formats a time in the past that is known to the minute: "now", "3 min ago", "5 h ago", "12 d ago";
// "never" for none.
func Ago(t *timestamppb.Timestamp, now time.Time) string {
	if t == nil {
		return "never"
	}
	switch passed := now.Sub(t.AsTime()); {
	case passed < time.Minute:
		return "now"
	case passed < time.Hour:
		return fmt.Sprintf("%d min ago", passed/time.Minute)
	case passed < 2*day:
		return fmt.Sprintf("%d h ago", passed/time.Hour)
	default:
		return fmt.Sprintf("%d d ago", passed/day)
	}
}
