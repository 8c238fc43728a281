package daemon

import (
	"bytes"
	"io"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc/grpclog"

	"github.com/countersign/countersign/services/internal/asynclog"
)

// flushBound bounds the wait at a process's end for its log to be read.
const flushBound = time.Second

// Stderr is the standard error of a long-running process. A write to it neither waits for a reader nor ends
// the process when there is none.
type Stderr struct {
	*asynclog.Writer
	// format makes a logger in the log's format; nil means text.
	format atomic.Pointer[func(io.Writer) *slog.Logger]
}

// OpenStderr redirects everything that goes to the standard error through a Stderr, including the output of
// package log and of gRPC. Call it once, before anything else runs, with the file of the standard error. Only
// a panic still writes to that file directly.
func OpenStderr(file io.Writer) *Stderr {
	// A write to a pipe without a reader ends a Go process if the pipe is its standard output or error
	// (os/signal, SIGPIPE).
	signal.Ignore(syscall.SIGPIPE)
	s := newStderr(file)
	log.SetOutput(s)
	grpclog.SetLoggerV2(grpcLogger(s, os.Getenv))
	return s
}

func newStderr(to io.Writer) *Stderr {
	s := &Stderr{}
	s.Writer = asynclog.New(to, asynclog.DefaultLimit, s.notice)
	return s
}

// Logger returns a logger that writes to s. From now on s writes its own lines in the same format.
func (s *Stderr) Logger(format func(io.Writer) *slog.Logger) *slog.Logger {
	s.format.Store(&format)
	return format(s)
}

// notice returns the line that reports lost lines. Its level is error, so that every log shows it: errors may
// be among the lost lines.
func (s *Stderr) notice(lines uint64) []byte {
	var line bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&line, nil))
	if format := s.format.Load(); format != nil {
		logger = (*format)(&line)
	}
	logger.Error("lines of the log are missing here, because nobody read it", "lines", lines)
	return line.Bytes()
}

// End writes the waiting lines, within a time limit, and ends s.
func (s *Stderr) End() { s.Close(flushBound) }

// grpcLogger returns a logger like gRPC's default, with its environment variables for severity and verbosity,
// but with another output (grpclog, newLoggerV2).
func grpcLogger(to io.Writer, variable func(string) string) grpclog.LoggerV2 {
	info, warning, failure := io.Discard, io.Discard, io.Discard
	switch strings.ToUpper(variable("GRPC_GO_LOG_SEVERITY_LEVEL")) {
	case "", "ERROR":
		failure = to
	case "WARNING":
		warning = to
	case "INFO":
		info = to
	}
	verbosity, _ := strconv.Atoi(variable("GRPC_GO_LOG_VERBOSITY_LEVEL"))
	return grpclog.NewLoggerV2WithVerbosity(info, warning, failure, verbosity)
}
