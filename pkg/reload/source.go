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

const (
	// rereadDelay is the pause between two reads of a file that has changed. Only contents that both reads
	// show are used, because a file that is written in place may be read half.
	rereadDelay = 100 * time.Millisecond
	// maxRereads is how many times a changed file is read before it counts as bad. The second of two files
	// that belong together may be replaced a moment later than the first.
	maxRereads = 10
)

// source are the files of one Value.
type source struct {
	name  string
	paths []string
	// once says that the files cannot be read again.
	once bool
	// apply parses contents and puts the value to use, or returns why it cannot be used.
	apply func(contents [][]byte) (value any, err error)

	// used identifies the contents in use, refused the contents that were refused last. Only reload uses
	// them, and Files runs one reload at a time.
	used, refused digest

	mu                sync.Mutex // guards what follows
	reloads, failures uint64
	isRefused         bool
	expires           time.Time
}

func (s *source) status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Status{Name: s.name, Reloads: s.reloads, Failures: s.failures, Refused: s.isRefused, Expires: s.expires}
}

// read reads the files. For files that cannot be read it returns a digest of the error.
func (s *source) read() (contents [][]byte, d digest, err error) {
	for _, path := range s.paths {
		if !isRegular(path) && err == nil { // opening a pipe may block
			err = fmt.Errorf("%s: is not a regular file", path)
		}
	}
	if err == nil {
		contents, err = readFiles(s.paths)
	}
	if err != nil {
		return nil, sha256.Sum256([]byte(err.Error())), err
	}
	return contents, digestOf(contents), nil
}

// reload reads the files and puts changed contents to use. When verbose it also logs that nothing has
// changed, and logs refused contents again.
func (s *source) reload(ctx context.Context, log *slog.Logger, verbose bool) {
	log = log.With("file", s.name, "path", strings.Join(s.paths, ", "))
	if s.once {
		if verbose {
			log.Info("file is not a regular file and is read only once: after a change it needs a restart")
		}
		return
	}
	contents, now, err := s.read()
	if err == nil && now == s.used {
		s.unchanged(log, verbose)
		return
	}
	if now == s.refused && !verbose {
		if err == nil {
			s.retry(log, now, contents)
		}
		return
	}
	for range maxRereads {
		before := now
		select {
		case <-ctx.Done():
			return
		case <-time.After(rereadDelay):
		}
		if contents, now, err = s.read(); now != before || err != nil {
			continue
		}
		if now == s.used {
			s.unchanged(log, verbose)
			return
		}
		var value any
		if value, err = s.apply(contents); err == nil {
			s.accept(log, now, value)
			return
		}
	}
	if err == nil {
		return // the file is still being written; the next reload reads it again
	}
	s.refuse(log, now, err)
}

// retry uses contents that were refused before if they have become good: a certificate becomes valid, or a
// wrong clock is set right. Another refusal is neither logged nor counted.
func (s *source) retry(log *slog.Logger, now digest, contents [][]byte) {
	if value, err := s.apply(contents); err == nil {
		s.accept(log, now, value)
	}
}

// unchanged records that the files hold the contents in use.
func (s *source) unchanged(log *slog.Logger, verbose bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isRefused {
		log.Info("file holds the contents in use again")
	} else if verbose {
		log.Info("file has not changed")
	}
	s.isRefused, s.refused = false, digest{}
}

// accept records that changed contents were put to use.
func (s *source) accept(log *slog.Logger, now digest, value any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used, s.refused = now, digest{}
	s.reloads++
	s.isRefused, s.expires = false, expiryOf(value)
	// Other values are not logged, because they may hold a secret.
	if shown, may := value.(slog.LogValuer); may {
		log = log.With("holds", shown)
	}
	log.Info("file has changed and is in use")
}

// refuse records that changed contents cannot be used.
func (s *source) refuse(log *slog.Logger, now digest, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = now
	s.failures++
	s.isRefused = true
	log.Error("file has changed and cannot be used; its earlier contents stay in use", "error", err)
}
