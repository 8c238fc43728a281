// Package reload reads files and reloads them when they change: certificates, authorities, keys. A file that
// becomes bad changes nothing: the process goes on with the earlier contents. This package is not part of the
// public API and may change in any release.
//
// A change is found by reading the contents every few seconds. This finds every kind of change on every file
// system: a write in place, a rename over the file, and a symbolic link above it that changes its target, as
// in a Kubernetes volume. Notifications of the kernel (inotify) on the file miss the last one, and miss
// changes that another machine makes. Reading some kilobytes every few seconds costs nothing noticeable.
package reload

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultInterval is the usual interval of New.
const DefaultInterval = 10 * time.Second

// Files are the files that a process reloads. They are safe for concurrent use. With a nil *Files, Read
// reads once and nothing is reloaded.
type Files struct {
	interval time.Duration
	log      *slog.Logger

	reloading sync.Mutex // held while files are reloaded
	mu        sync.Mutex // guards sources
	sources   []*source
}

// New returns an empty set of files. While Run runs, they are reloaded in every interval, which must be
// positive.
func New(interval time.Duration, log *slog.Logger) *Files {
	return &Files{interval: interval, log: log}
}

// Value is the parsed contents of one or more files. It is safe for concurrent use.
type Value[T any] struct{ current atomic.Pointer[T] }

// Get returns the latest contents that could be used.
func (v *Value[T]) Get() T { return *v.current.Load() }

// Read reads files that belong together, such as a certificate and its key, and parses their contents. Files
// reloads them under the given name, which logs and metrics show and which must be unique.
//
// Parse gets the contents in the order of the paths. Its error is logged, so it must not contain a secret. A
// value that is an Expirer is checked before it replaces another one. A value that is a slog.LogValuer is
// logged when it replaces another one.
//
// Read fails when a file cannot be read, is larger than 64 MiB or cannot be parsed. A path that is not a
// regular file, such as a pipe, is read only this once.
func Read[T any](f *Files, name string, parse func(contents [][]byte) (T, error), paths ...string) (*Value[T], error) {
	regular := !slices.ContainsFunc(paths, func(path string) bool { return !isRegular(path) })
	contents, err := readFiles(paths)
	if err != nil {
		return nil, err
	}
	first, err := parse(contents)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", strings.Join(paths, ", "), err)
	}
	value := &Value[T]{}
	value.current.Store(&first)
	if f == nil {
		return value, nil
	}
	s := &source{name: name, paths: paths, once: !regular, used: digestOf(contents), expires: expiryOf(first)}
	s.apply = func(contents [][]byte) (any, error) {
		next, err := parse(contents)
		if err == nil {
			err = checkValidity(value.Get(), next, time.Now())
		}
		if err == nil {
			value.current.Store(&next)
		}
		return next, err
	}
	return value, f.add(s)
}

func (f *Files) add(s *source) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, other := range f.sources {
		if other.name == s.name {
			return fmt.Errorf("%s: files with this name are already read; want a unique name", s.name)
		}
	}
	f.sources = append(f.sources, s)
	return nil
}

func (f *Files) all() []*source {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sources[:len(f.sources):len(f.sources)]
}

// Run reloads the files in every interval until ctx ends.
func (f *Files) Run(ctx context.Context) {
	ticker := time.NewTicker(f.interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			f.reload(ctx, false)
		}
	}
}

// Reload reloads the files at once and logs the outcome for each, even if nothing has changed. It may take
// about a second for each file that is bad. It returns early when ctx ends.
func (f *Files) Reload(ctx context.Context) { f.reload(ctx, true) }

func (f *Files) reload(ctx context.Context, verbose bool) {
	f.reloading.Lock()
	defer f.reloading.Unlock()
	for _, s := range f.all() {
		s.reload(ctx, f.log, verbose)
	}
}

// Status is the state of the files of one name.
type Status struct {
	Name string
	// Reloads is how many changes were put to use, Failures how many were refused.
	Reloads, Failures uint64
	// Refused says that the files hold bad contents, while earlier contents are in use.
	Refused bool
	// Expires is when the contents in use expire; zero if they do not, or are not an Expirer.
	Expires time.Time
}

// Status returns the state of all files, in the order in which Read was called.
func (f *Files) Status() (all []Status) {
	if f == nil {
		return nil
	}
	for _, s := range f.all() {
		all = append(all, s.status())
	}
	return all
}
