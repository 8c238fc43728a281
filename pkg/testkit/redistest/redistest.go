// Package redistest starts real Redis servers for tests, and spoils the network between them and their
// clients. A server listens on a free port of the loopback interface, keeps its files in a directory of the
// test, and ends with it.
package redistest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/testkit/testport"
)

const (
	binary = "redis-server"
	// startTimeout bounds how long a server may take to answer; a busy machine with the race detector is
	// slow.
	startTimeout = 20 * time.Second
	// portAttempts is how many ports are tried: another process may take one between the choice and the
	// start.
	portAttempts = 5
)

// Server is a Redis server of one test. Its methods fail the test when they cannot do what they say.
type Server struct {
	t     testing.TB
	dir   string
	port  int
	args  []string // what the process is started with
	proxy *Proxy   // nil for none
	admin string   // the account that may do everything, whose password is its name; empty for the default user
	// ready is called when the process answers after a start; nil for nothing.
	ready func() error

	mu      sync.Mutex
	process *process // nil while stopped
	paused  bool
	// said is what its processes have written, those of before a restart too.
	said lockedBuffer
}

// process is one life of a server.
type process struct {
	cmd    *exec.Cmd
	output *lockedBuffer
	ended  chan struct{}
}

// Start starts a server with nothing in it, and returns when it answers. It fails the test when there is no
// Redis to start: a test that needs one must not pass without. The server persists nothing unless args,
// which are those of redis-server, say so.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	return launch(t, func(s *Server) { s.args = append(s.defaults(), args...) })
}

// launch starts a server that prepare has made ready for a port.
func launch(t testing.TB, prepare func(*Server)) *Server {
	t.Helper()
	s := &Server{t: t, dir: t.TempDir()}
	t.Cleanup(s.end)
	var err error
	for range portAttempts {
		s.port = testport.Free(t)
		prepare(s)
		if err = s.start(); err == nil {
			return s
		}
		if !strings.Contains(err.Error(), "Address already in use") {
			break
		}
	}
	t.Fatalf("redistest: %v", err)
	return nil
}

// defaults are the arguments of every server that holds data.
func (s *Server) defaults() []string {
	return []string{
		"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.dir,
		"--save", "", "--appendonly", "no", "--daemonize", "no",
	}
}

// Address returns host and port.
func (s *Server) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Proxy returns the proxy that the server's clients, replicas and sentinels see in its place; nil if there
// is none. It can be told to spoil their connections.
func (s *Server) Proxy() *Proxy { return s.proxy }

// PublicAddress is where others find the server: its proxy's address if it has one.
func (s *Server) PublicAddress() string {
	if s.proxy != nil {
		return s.proxy.Address()
	}
	return s.Address()
}

// Running tells whether the server was started, and not stopped or paused.
func (s *Server) Running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process != nil && !s.paused
}

// URL returns the URL of the server's database 0, for the user that may do everything: the default user, or
// that of StartWithAccounts.
func (s *Server) URL() string { return URL(s.Address(), s.admin, s.admin) }

// Dir returns the directory of the server's files.
func (s *Server) Dir() string { return s.dir }

// URL returns the URL of a server, for a user; an empty one is the default user without a password.
func URL(address, user, password string) string {
	u := url.URL{Scheme: "redis", Host: address, Path: "/0"}
	if user != "" {
		u.User = url.UserPassword(user, password)
	}
	return u.String()
}

// Stop kills the server: what it did not persist is lost, and its port refuses connections.
func (s *Server) Stop() {
	s.t.Helper()
	if !s.kill() {
		s.t.Fatal("redistest: the server does not run")
	}
}

// Restart starts a server that was stopped again, at the same address and over the same files.
func (s *Server) Restart() {
	s.t.Helper()
	if err := s.start(); err != nil {
		s.t.Fatalf("redistest: %v", err)
	}
}

// Pause stops the server from running without ending it (SIGSTOP): its connections stay open and the kernel
// goes on accepting, but nothing answers.
func (s *Server) Pause() {
	s.t.Helper()
	s.signal(syscall.SIGSTOP)
}

// Resume ends a Pause.
func (s *Server) Resume() {
	s.t.Helper()
	s.signal(syscall.SIGCONT)
}

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		s.t.Fatal("redistest: the server does not run")
	}
	if err := s.process.cmd.Process.Signal(sig); err != nil {
		s.t.Fatalf("redistest: %v: %v", sig, err)
	}
	s.paused = sig == syscall.SIGSTOP
}

func (s *Server) start() error {
	path, err := exec.LookPath(binary)
	if err != nil {
		return fmt.Errorf("%s is not on the PATH: install Redis 7.0 or later (Debian: apt-get install redis-server); "+
			"the tests start servers of their own", binary)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		return fmt.Errorf("the server runs")
	}
	p := &process{cmd: exec.Command(path, s.args...), output: &lockedBuffer{}, ended: make(chan struct{})}
	output := io.MultiWriter(p.output, &s.said)
	p.cmd.Stdout, p.cmd.Stderr = output, output
	dieWithParent(p.cmd)
	if err := p.cmd.Start(); err != nil {
		return err
	}
	go func() {
		_ = p.cmd.Wait() // killed, as a rule
		close(p.ended)
	}()
	s.process = p
	err = s.waitReady(p)
	if err == nil && s.ready != nil {
		err = s.ready()
	}
	if err != nil {
		s.process = nil
		p.kill()
	}
	return err
}

// waitReady returns when the server answers with something else than that it is loading.
func (s *Server) waitReady(p *process) error {
	deadline := time.Now().Add(startTimeout)
	for {
		err := ping(s.Address(), s.admin, deadline)
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended at once:\n%s", binary, p.output)
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not answer: %w\n%s", binary, err, p.output)
		}
	}
}

// ping asks an address as a user; an empty one is the default user.
func ping(address, user string, deadline time.Time) error {
	connection, err := net.DialTimeout("tcp", address, time.Until(deadline))
	if err != nil {
		return err
	}
	defer connection.Close()
	if err := connection.SetDeadline(deadline); err != nil {
		return err
	}
	reader := bufio.NewReader(connection)
	if user != "" {
		// Redis tells a client that has not authenticated nothing else, also while it is loading.
		if _, err := send(connection, reader, "AUTH", user, user); err != nil {
			return err
		}
	}
	if _, err := connection.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	line, err := reader.ReadString('\n')
	if err != nil {
		return err
	}
	// Anything else, such as that a password is wanted, comes from a server that is up.
	if strings.HasPrefix(line, "-LOADING") {
		return fmt.Errorf("answer %q", line)
	}
	return nil
}

// kill ends the server's process, and only that one; false when there is none.
func (s *Server) kill() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return false
	}
	s.process.kill()
	s.process, s.paused = nil, false
	return true
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails only when it has ended
	<-p.ended
}

// end is the test's cleanup; it shows what the server had to say when the test failed.
func (s *Server) end() {
	s.kill()
	if s.t.Failed() {
		s.t.Logf("output of %s %s:\n%s", binary, s.Address(), &s.said)
	}
}

// lockedBuffer takes what a process writes while a test may read it.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(data []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(data)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
