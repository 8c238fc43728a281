package reload

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// source are the files of one value.
type source struct {
	name  string
	paths []string
	// once is for files that cannot be read twice.
	once bool
	// take parses contents and puts the value to use.
	take func(contents [][]byte) (value any, err error)

	// used is the digest of what is in use, refused that of what was refused last. They belong to the reader.
	used, refused [sha256.Size]byte

	mu                sync.Mutex
	reloads, failures uint64
	isRefused         bool
	expires           time.Time
}

func (s *source) status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Status{Name: s.name, Reloads: s.reloads, Failures: s.failures, Refused: s.isRefused, Expires: s.expires}
}

// look reads the files; the digest of files that cannot be read is that of the reason.
func (s *source) look() (contents [][]byte, d [sha256.Size]byte, err error) {
	for _, path := range s.paths {
		if !isRegular(path) && err == nil { // to open a pipe may block
			err = fmt.Errorf("%s: is no regular file", path)
		}
	}
	if err == nil {
		contents, err = read(s.paths)
	}
	if err != nil {
		return nil, sha256.Sum256([]byte(err.Error())), err
	}
	return contents, digest(contents), nil
}

// again takes in what has changed.
func (s *source) again(ctx context.Context, log *slog.Logger, say bool) {
	log = log.With("file", s.name, "path", strings.Join(s.paths, ", "))
	if s.once {
		if say {
			log.Info("file cannot be read twice: it needs a restart")
		}
		return
	}
	contents, now, err := s.look()
	if err == nil && now == s.used {
		s.unchanged(log, say)
		return
	}
	if now == s.refused && !say {
		if err == nil {
			s.retry(log, now, contents)
		}
		return
	}
	for range tries {
		before := now
		select {
		case <-ctx.Done():
			return
		case <-time.After(settle):
		}
		if contents, now, err = s.look(); now != before || err != nil {
			continue
		}
		if now == s.used {
			s.unchanged(log, say)
			return
		}
		var value any
		if value, err = s.take(contents); err == nil {
			s.accept(log, now, value)
			return
		}
	}
	if err == nil {
		return // it is still being written: the next look tells
	}
	s.refuse(log, now, err)
}

// retry takes in contents that were refused before, if they are good by now: a certificate becomes valid,
// and a clock that was wrong is set. A second refusal is neither logged nor counted.
func (s *source) retry(log *slog.Logger, now [sha256.Size]byte, contents [][]byte) {
	if value, err := s.take(contents); err == nil {
		s.accept(log, now, value)
	}
}

// unchanged notes that the files hold what is in use.
func (s *source) unchanged(log *slog.Logger, say bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isRefused {
		log.Info("file holds again what is in use")
	} else if say {
		log.Info("file has not changed")
	}
	s.isRefused, s.refused = false, [sha256.Size]byte{}
}

func (s *source) accept(log *slog.Logger, now [sha256.Size]byte, value any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used, s.refused = now, [sha256.Size]byte{}
	s.reloads++
	s.isRefused, s.expires = false, expiry(value)
	// Of other values it is not known whether they may be shown.
	if shown, may := value.(slog.LogValuer); may {
		log = log.With("holds", shown)
	}
	log.Info("file has changed and is in use")
}

func (s *source) refuse(log *slog.Logger, now [sha256.Size]byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = now
	s.failures++
	s.isRefused = true
	log.Error("file has changed and cannot be used; what it held before stays in use", "error", err)
}
