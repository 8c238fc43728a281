package model

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
)

// logbook records the log lines of all processes.
type logbook struct {
	mu    sync.Mutex
	lines []string
	attrs string
	to    *logbook
	// merged counts the apps with two histories that had changed the same value.
	merged atomic.Int64
}

func (b *logbook) root() *logbook {
	if b.to != nil {
		return b.to
	}
	return b
}

func (b *logbook) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

func (b *logbook) WithGroup(string) slog.Handler { return b }

func (b *logbook) WithAttrs(attrs []slog.Attr) slog.Handler {
	to := b
	if b.to != nil {
		to = b.to
	}
	text := b.attrs
	for _, a := range attrs {
		text += " " + a.String()
	}
	return &logbook{attrs: text, to: to}
}

func (b *logbook) Handle(_ context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "two histories of an app") {
		b.root().merged.Add(1)
	}
	line := r.Time.Format("05.000 ") + r.Level.String() + " " + r.Message + b.attrs
	r.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
	to := b
	if b.to != nil {
		to = b.to
	}
	to.mu.Lock()
	defer to.mu.Unlock()
	to.lines = append(to.lines, line)
	return nil
}

// String returns the last lines.
func (b *logbook) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.lines[max(len(b.lines)-400, 0):], "\n")
}
