package replica

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// quietTime is how long the same message is not logged again.
const quietTime = 30 * time.Second

// restraint keeps what happens again and again from flooding the log: of each message one is logged at
// once, and then one in quietTime, with the number of those that were not. The zero value is ready, and
// safe for concurrent use.
type restraint struct {
	mu   sync.Mutex
	said map[string]*said
}

type said struct {
	at      time.Time
	omitted int
}

func (r *restraint) warn(log *slog.Logger, message string, args ...any) {
	r.log(log, slog.LevelWarn, message, args)
}

func (r *restraint) error(log *slog.Logger, message string, args ...any) {
	r.log(log, slog.LevelError, message, args)
}

func (r *restraint) log(log *slog.Logger, level slog.Level, message string, args []any) {
	omitted, speak := r.allow(message, time.Now())
	if !speak {
		return
	}
	if omitted > 0 {
		args = append(args, "omitted", omitted)
	}
	log.Log(context.Background(), level, message, args...)
}

// allow tells whether a message may be logged, and how many were not since the last one.
func (r *restraint) allow(message string, now time.Time) (omitted int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.said[message]
	if s == nil {
		if r.said == nil {
			r.said = map[string]*said{}
		}
		s = &said{}
		r.said[message] = s
	}
	if !s.at.IsZero() && now.Sub(s.at) < quietTime {
		s.omitted++
		return 0, false
	}
	omitted, s.at, s.omitted = s.omitted, now, 0
	return omitted, true
}
