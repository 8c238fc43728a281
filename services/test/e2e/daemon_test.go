package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/metadata"

	"github.com/countersign/countersign/deploy/redisacl"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// logPipe is the standard error of a process. The test decides when it is read.
type logPipe struct {
	read, write *os.File
}

func newLogPipe(t *testing.T) *logPipe {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &logPipe{read, write}
	t.Cleanup(func() { read.Close(); write.Close() })
	return p
}

// fill fills the pipe completely: all its buffers, each of one page, including the last.
func (p *logPipe) fill(t *testing.T) {
	t.Helper()
	page := bytes.Repeat([]byte{'\n'}, os.Getpagesize())
	for check.Must(unix.Poll([]unix.PollFd{{Fd: int32(p.write.Fd()), Events: unix.POLLOUT}}, 0))(t) > 0 {
		check.Must(p.write.Write(page))(t)
	}
}

// drain reads all lines from the pipe, until no process has its writing end open.
func (p *logPipe) drain(t *testing.T) string {
	t.Helper()
	p.write.Close()
	return string(check.Must(io.ReadAll(p.read))(t))
}

// readUntil reads until a text appears.
func (p *logPipe) readUntil(t *testing.T, text string) {
	t.Helper()
	if err := p.read.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for part := make([]byte, 4096); !bytes.Contains(got, []byte(text)); {
		n, err := p.read.Read(part)
		if err != nil {
			t.Fatalf("the log ended with %v before it said %q:\n%s", err, text, got)
		}
		got = append(got, part[:n]...)
	}
}

// daemons are an authority and a validator with their own Redis. The test decides when their logs are read.
type daemons struct {
	*processes
	authority, validator *daemon
}

type daemon struct {
	*process
	log *logPipe
	cmd *exec.Cmd
	end func() error
}

// startDaemons starts both processes. An argument that begins with the name of one process goes only to this
// process.
func startDaemons(t *testing.T, arguments ...string) *daemons {
	t.Helper()
	p := &processes{redis: redistest.StartWithAccounts(t), keys: map[string]string{}}
	folder, common := p.prepare(t)
	common = append(common, arguments...)
	return &daemons{
		processes: p,
		authority: startDaemon(t, folder, "authority",
			append(common[:len(common):len(common)], "--admin-keys-file="+filepath.Join(folder, keysFile),
				"--redis-url="+p.redis.URLFor(redisacl.Authority))...),
		validator: startDaemon(t, folder, "validator",
			append(common[:len(common):len(common)], "--redis-url="+p.redis.URLFor(redisacl.Validator))...),
	}
}

func startDaemon(t *testing.T, folder, name string, arguments ...string) *daemon {
	t.Helper()
	d := &daemon{process: newProcess(t, name), log: newLogPipe(t)}
	d.start(t, folder, arguments...)
	return d
}

func (d *daemon) start(t *testing.T, folder string, arguments ...string) {
	t.Helper()
	d.cmd = exec.Command(filepath.Join(folder, d.name), d.arguments(arguments)...)
	d.cmd.Stderr = d.log.write
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d.end = sync.OnceValue(d.cmd.Wait)
	t.Cleanup(func() { _ = d.cmd.Process.Kill(); _ = d.end() })
	d.awaitServing(t)
}

func (d *daemon) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := d.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// awaitMetric waits until a metric has an acceptable value.
func (p *process) awaitMetric(t *testing.T, name string, is func(value string) bool) {
	t.Helper()
	check.Eventually(t, name+" of the "+p.name, func() error {
		value := ""
		for line := range strings.Lines(string(p.page(t, "/metrics"))) {
			if after, found := strings.CutPrefix(line, name+" "); found {
				value = strings.TrimSpace(after)
			}
		}
		if !is(value) {
			return fmt.Errorf("it is %q", value)
		}
		return nil
	})
}

// terminate sends SIGTERM to the process, and fails the test if the process does not exit with success.
func (d *daemon) terminate(t *testing.T) {
	t.Helper()
	d.signal(t, syscall.SIGTERM)
	ended := make(chan error, 1)
	go func() { ended <- d.end() }()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the %s exited with %v, want success", d.name, err)
		}
	case <-ctx.Done():
		t.Errorf("the %s did not exit after SIGTERM", d.name)
	}
}

// goesOn makes changes and asks about them. The authority must answer, and the validator must apply the
// changes.
func (d *daemons) goesOn(t *testing.T, what string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	admin := metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+d.keys["ada"])
	management := pb.NewAuthorityServiceClient(d.authority.dial(t))
	decider := pb.NewValidatorServiceClient(d.validator.dial(t))
	ask := func(secret, since string) pb.Reason {
		t.Helper()
		var answer *pb.AuthorizeResponse
		check.Eventually(t, what+": the validator follows", func() (err error) {
			answer, err = decider.Authorize(ctx, &pb.AuthorizeRequest{
				AppId: "app", Token: secret, Scope: pb.Scope_SCOPE_EVENTS,
				MinRevision: since,
			})
			return err
		})
		return answer.GetReason()
	}
	var created *pb.CreateTokenResponse
	check.Eventually(t, what+": the authority answers", func() (err error) {
		created, err = management.CreateToken(admin,
			&pb.CreateTokenRequest{AppId: "app", Name: what, RequestId: strings.ReplaceAll(what, " ", "-")})
		return err
	})
	if created.GetSecret() == "" { // an earlier call made it, and its response was lost
		t.Fatalf("%s: the authority has changed something and not answered", what)
	}
	if got := ask(created.GetSecret(), created.GetConsistencyToken()); got != pb.Reason_REASON_TOKEN_VALID_UNSCOPED {
		t.Errorf("%s: the answer for a new token is %s", what, got)
	}
	revoked, err := management.RevokeToken(admin,
		&pb.RevokeTokenRequest{AppId: "app", TokenId: created.GetToken().GetTokenId()})
	if err != nil {
		t.Fatalf("%s: the authority does not revoke: %v", what, err)
	}
	if got := ask(created.GetSecret(), revoked.GetConsistencyToken()); got != pb.Reason_REASON_TOKEN_REVOKED {
		t.Errorf("%s: the answer for a revoked token is %s", what, got)
	}
}

// outage makes Redis unreachable until the validator reports stale data.
func (d *daemons) outage(t *testing.T) {
	t.Helper()
	d.redis.Pause()
	check.Eventually(t, "stale data at the validator", func() error {
		if page := d.validator.page(t, "/readyz"); !bytes.Contains(page, []byte("STALE")) {
			return fmt.Errorf("/readyz answers %q", page)
		}
		return nil
	})
	d.redis.Resume()
}

// TestBlockedLogStopsNothing: the services continue to work when nothing reads their standard error, even in
// an outage of Redis, which both log. At SIGTERM they exit with success.
func TestBlockedLogStopsNothing(t *testing.T) {
	d := startDaemons(t)
	d.goesOn(t, "before")
	d.authority.log.fill(t)
	d.validator.log.fill(t)
	d.goesOn(t, "with blocked logs")
	d.outage(t)
	d.goesOn(t, "after an outage")
	d.authority.terminate(t)
	d.validator.terminate(t)
}

// TestLogIsReadAgain: lines that were logged while nothing read the log appear when the test reads it again.
func TestLogIsReadAgain(t *testing.T) {
	d := startDaemons(t)
	d.authority.log.fill(t)
	d.goesOn(t, "with a blocked log")
	d.authority.log.readUntil(t, "RevokeToken")
	d.authority.terminate(t)
	if text := d.authority.log.drain(t); !strings.Contains(text, "stopped") {
		t.Errorf("the end of the log is missing:\n%s", text)
	}
}

// TestClosedLogKillsNothing: the services continue to work when the reader of their standard error has closed
// it. At SIGTERM they exit with success.
func TestClosedLogKillsNothing(t *testing.T) {
	d := startDaemons(t)
	d.authority.log.read.Close()
	d.validator.log.read.Close()
	d.goesOn(t, "with closed logs")
	d.outage(t)
	d.goesOn(t, "after an outage")
	for _, one := range []*daemon{d.authority, d.validator} {
		one.awaitMetric(t, "countersign_log_lines_dropped_total", func(lost string) bool { return lost != "" && lost != "0" })
		one.terminate(t)
	}
}

// TestHangUpEndsNothing: at SIGHUP a service reloads its files, and does not exit.
func TestHangUpEndsNothing(t *testing.T) {
	d := startDaemons(t)
	for _, one := range []*daemon{d.authority, d.validator} {
		one.signal(t, syscall.SIGHUP)
		one.log.readUntil(t, "reading files again")
	}
	d.goesOn(t, "after SIGHUP")
	d.authority.terminate(t)
	d.validator.terminate(t)
}
