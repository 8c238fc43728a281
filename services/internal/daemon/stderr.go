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

// flushBound is how long a process that ends waits for somebody to read its log.
const flushBound = time.Second

// Stderr is the standard error of a process that runs for long. Nothing that is written to it waits for a
// reader, or ends the process when there is none.
type Stderr struct {
	*asynclog.Writer
	// form makes a logger of the form that the log has; nil is the text form.
	form atomic.Pointer[func(io.Writer) *slog.Logger]
}

// OpenStderr makes everything that goes to the standard error go through a Stderr: what is written to it,
// and what package log and gRPC write there by themselves. It is called once, before anything else runs,
// with the file that is the standard error. Only a panic still writes to that itself.
func OpenStderr(file io.Writer) *Stderr {
	// A write to a pipe without a reader ends a Go process when it is its standard output or error
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

// Logger returns a logger that writes to s, in the form that lines of s's own have from now on.
func (s *Stderr) Logger(form func(io.Writer) *slog.Logger) *slog.Logger {
	s.form.Store(&form)
	return form(s)
}

// notice returns the line about lines that were lost. It is an error, so that no level leaves it out:
// errors may be among them.
func (s *Stderr) notice(lines uint64) []byte {
	var line bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&line, nil))
	if form := s.form.Load(); form != nil {
		logger = (*form)(&line)
	}
	logger.Error("lines of the log are missing here, since nobody read it", "lines", lines)
	return line.Bytes()
}

// End writes what waits, for as long as a process may take that for, and ends s.
func (s *Stderr) End() { s.Close(flushBound) }

// grpcLogger returns the logger that gRPC has by itself, by its variables for severity and verbosity, but
// with another output (grpclog, newLoggerV2).
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
