// Package reload keeps what a process has read from files up to date: certificates, authorities, keys. A
// file that becomes bad changes nothing; what was read before it goes on.
//
// Files are found changed by their contents, which are read every few seconds. That sees every way of
// changing a file: in place, a rename over it, a symbolic link of a folder above it that leads elsewhere
// (as Kubernetes changes a volume), on every file system. Notifications of the kernel miss the last on the
// file itself, and do not come from another machine's changes. Some kilobytes every few seconds cost
// nothing.
package reload

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultInterval is how often files are read unless somebody says otherwise.
const DefaultInterval = 10 * time.Second

const (
	// settle is the pause between two reads that must show the same before it counts: a file that is
	// written in place can be read half.
	settle = 100 * time.Millisecond
	// tries is how often a file is read before it counts as bad: a certificate and its key may be changed
	// one after the other.
	tries = 10
	// maxSize is the size in bytes of the largest file that is read.
	maxSize = 64 << 20
)

// Files are the files of a process. They are safe for concurrent use. A nil *Files reads each file once.
type Files struct {
	interval time.Duration
	log      *slog.Logger

	reading sync.Mutex // held while files are read again
	mu      sync.Mutex
	sources []*source
}

// New returns an empty set of files that are read again in every interval while Run runs.
func New(interval time.Duration, log *slog.Logger) *Files {
	return &Files{interval: interval, log: log}
}

// Value is what one or more files hold. Get may be called by many at once.
type Value[T any] struct{ current atomic.Pointer[T] }

// Get returns what was read last and is good.
func (v *Value[T]) Get() T { return *v.current.Load() }

// Expirer is a value that is good from one time until another. A zero time is no bound. Files that hold
// such a value do not replace a good one by one that has expired, nor, before its time, by one that is not
// valid yet.
type Expirer interface {
	Begins() time.Time
	Expires() time.Time
}

// Read reads files that hold one value together, such as a certificate and its key, and reads them again
// when they change. Parse gets the contents in the order of the paths; its error must not hold a secret.
// The name says in logs and metrics which files are meant. A file that is no regular one, such as a pipe,
// is read this once. A value that is a slog.LogValuer is shown in the log when it is replaced.
func Read[T any](f *Files, name string, parse func(contents [][]byte) (T, error), paths ...string) (*Value[T], error) {
	regular := !slices.ContainsFunc(paths, func(path string) bool { return !isRegular(path) })
	contents, err := read(paths)
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
	s := &source{name: name, paths: paths, once: !regular, used: digest(contents), expires: expiry(first)}
	s.take = func(contents [][]byte) (any, error) {
		next, err := parse(contents)
		if err == nil {
			err = untimely(value.Get(), next, time.Now())
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
			return fmt.Errorf("%s: is read twice", s.name)
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

// Run reads the files again in every interval until ctx ends.
func (f *Files) Run(ctx context.Context) {
	ticker := time.NewTicker(f.interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			f.again(ctx, false)
		}
	}
}

// Now reads the files again at once, and says of each in the log what came of it.
func (f *Files) Now(ctx context.Context) { f.again(ctx, true) }

func (f *Files) again(ctx context.Context, say bool) {
	f.reading.Lock()
	defer f.reading.Unlock()
	for _, s := range f.all() {
		s.again(ctx, f.log, say)
	}
}

// Status is what became of the files of one name.
type Status struct {
	Name string
	// Reloads is how often a change was taken in, Failures how often it was refused.
	Reloads, Failures uint64
	// Refused tells that the files do not hold now what is used.
	Refused bool
	// Expires is that of an Expirer; zero for other values.
	Expires time.Time
}

// Status returns what became of the files so far.
func (f *Files) Status() (all []Status) {
	if f == nil {
		return nil
	}
	for _, s := range f.all() {
		all = append(all, s.status())
	}
	return all
}

// isRegular tells whether a file can be read again and again; a missing one counts as one that can.
func isRegular(path string) bool {
	info, err := os.Stat(path)
	return err != nil || info.Mode().IsRegular()
}

// read returns the contents of files.
func read(paths []string) (contents [][]byte, err error) {
	for _, path := range paths {
		data, err := readOne(path)
		if err != nil {
			return nil, err
		}
		contents = append(contents, data)
	}
	return contents, nil
}

func readOne(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	if err == nil && len(data) > maxSize {
		err = fmt.Errorf("%s: want at most %d bytes", path, maxSize)
	}
	return data, err
}

// digest returns one of all contents.
func digest(contents [][]byte) (d [sha256.Size]byte) {
	hash := sha256.New()
	for _, data := range contents {
		hash.Write(binary.BigEndian.AppendUint64(nil, uint64(len(data))))
		hash.Write(data)
	}
	copy(d[:], hash.Sum(nil))
	return d
}

func expiry(value any) time.Time {
	if e, is := value.(Expirer); is {
		return e.Expires()
	}
	return time.Time{}
}

// untimely returns an error when a value that is not good now is to replace one that is.
func untimely(current, next any, now time.Time) error {
	if outside(current, now) == nil {
		return outside(next, now)
	}
	return nil
}

// outside returns an error when a value is not good now.
func outside(value any, now time.Time) error {
	e, is := value.(Expirer)
	if !is {
		return nil
	}
	if at := e.Begins(); at.After(now) {
		return fmt.Errorf("it is not valid before %s; it is used then", at.UTC().Format(time.RFC3339))
	}
	if at := e.Expires(); !at.IsZero() && !at.After(now) {
		return fmt.Errorf("it has expired, at %s", at.UTC().Format(time.RFC3339))
	}
	return nil
}
