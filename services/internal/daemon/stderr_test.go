package daemon

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/grpclog"
)

// childVariable makes the test binary a process that logs.
const childVariable = "DAEMON_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		child()
		return
	}
	os.Exit(m.Run())
}

// child logs in every possible way when its standard input ends, and then prints the number of lost lines.
func child() {
	s := OpenStderr(os.Stderr)
	_, _ = io.Copy(io.Discard, os.Stdin)
	slog.New(slog.NewTextHandler(s, nil)).Info("slog")
	log.Print("log")
	grpclog.Error("gRPC")
	s.Close(time.Hour)
	fmt.Println(s.Dropped())
}

// TestStandardError: lines of every kind of logger are written. When nobody reads them they are lost, and the
// process continues.
func TestStandardError(t *testing.T) {
	for _, closed := range []bool{false, true} {
		t.Run(fmt.Sprintf("closed %t", closed), func(t *testing.T) {
			read, write, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer read.Close()
			var out bytes.Buffer
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), childVariable+"=1")
			cmd.Stdout, cmd.Stderr = &out, write
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			write.Close()
			want := "0"
			if closed {
				read.Close()
				want = "3"
			}
			in.Close()
			said, _ := io.ReadAll(read)
			if err := cmd.Wait(); err != nil || strings.TrimSpace(out.String()) != want {
				t.Errorf("the process ended with %v and %q lines lost, want %s", err, out.String(), want)
			}
			for _, how := range []string{"slog", "log", "gRPC"} {
				if closed != !strings.Contains(string(said), how) {
					t.Errorf("the lines of %s are not as expected:\n%s", how, said)
				}
			}
		})
	}
}

// TestGRPCLogger: the logger has the levels of gRPC's own.
func TestGRPCLogger(t *testing.T) {
	for level, want := range map[string]string{"": "e", "error": "e", "WARNING": "we", "info": "iwe", "none": ""} {
		var got bytes.Buffer
		l := grpcLogger(&got, func(name string) string {
			return map[string]string{"GRPC_GO_LOG_SEVERITY_LEVEL": level, "GRPC_GO_LOG_VERBOSITY_LEVEL": "3"}[name]
		})
		l.Info("said i")
		l.Warning("said w")
		l.Error("said e")
		said := ""
		for line := range strings.Lines(got.String()) {
			said += strings.TrimSpace(line)[len(strings.TrimSpace(line))-1:]
		}
		if said != want || !l.V(3) || l.V(4) {
			t.Errorf("level %q: %q, want %q", level, said, want)
		}
	}
}

// TestNotice: the notice has the format of the log, whatever the log level.
func TestNotice(t *testing.T) {
	s := newStderr(io.Discard)
	defer s.End()
	if got := string(s.notice(3)); !strings.Contains(got, "lines=3") {
		t.Errorf("before the format is known: %q", got)
	}
	s.Logger(func(w io.Writer) *slog.Logger {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelError}))
	})
	if got := string(s.notice(3)); !strings.Contains(got, `"lines":3`) || !strings.HasSuffix(got, "}\n") {
		t.Errorf("%q", got)
	}
}
