package replica

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// logInterval is the least time between two log lines with the same message.
const logInterval = 30 * time.Second

// logLimiter bounds how often the same message is logged: at once, and then once in logInterval, with the
// number of omitted lines. The zero value is ready. It is safe for concurrent use.
type logLimiter struct {
	mu       sync.Mutex
	messages map[string]*loggedMessage
}

type loggedMessage struct {
	at      time.Time
	omitted int
}

func (l *logLimiter) warn(log *slog.Logger, message string, args ...any) {
	l.log(log, slog.LevelWarn, message, args)
}

func (l *logLimiter) error(log *slog.Logger, message string, args ...any) {
	l.log(log, slog.LevelError, message, args)
}

func (l *logLimiter) log(log *slog.Logger, level slog.Level, message string, args []any) {
	omitted, ok := l.allow(message, time.Now())
	if !ok {
		return
	}
	if omitted > 0 {
		args = append(args, "omitted", omitted)
	}
	log.Log(context.Background(), level, message, args...)
}

// allow reports whether a message may be logged, and how many lines were omitted since the last one.
func (l *logLimiter) allow(message string, now time.Time) (omitted int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.messages[message]
	if m == nil {
		if l.messages == nil {
			l.messages = map[string]*loggedMessage{}
		}
		m = &loggedMessage{}
		l.messages[message] = m
	}
	if !m.at.IsZero() && now.Sub(m.at) < logInterval {
		m.omitted++
		return 0, false
	}
	omitted, m.at, m.omitted = m.omitted, now, 0
	return omitted, true
}
