// Package redistest starts real Redis servers for tests, and disturbs the network between them and their
// clients. A server listens on a free port of the loopback interface, keeps its files in a folder of the
// test, and ends with the test. This package is not part of the public API and may change in any release.
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
	// startTimeout bounds how long a server may take to answer. A busy machine with the race detector is
	// slow.
	startTimeout = 20 * time.Second
	// portAttempts is how many ports are tried. Another process may take a port between its choice and the
	// start.
	portAttempts = 5
)

// Server is a Redis server of one test. Its methods fail the test when they cannot do what they promise.
type Server struct {
	t     testing.TB
	dir   string
	port  int
	args  []string // arguments of the process
	proxy *Proxy   // nil for none
	admin string   // the account with all rights; its password is its name; empty means the default user
	// ready is called when the process answers after a start; may be nil.
	ready func() error

	mu      sync.Mutex
	process *process // nil while stopped
	paused  bool
	// said is the output of all its processes, including those before a restart.
	said lockedBuffer
}

// process is one process of a server, from start to end.
type process struct {
	cmd    *exec.Cmd
	output *lockedBuffer
	ended  chan struct{}
}

// Start starts an empty server, and returns when it answers. It fails the test when Redis is not installed,
// because a test that needs Redis must not pass without it. The server persists nothing unless args, the
// arguments of redis-server, say so.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	return launch(t, func(s *Server) { s.args = append(s.defaults(), args...) })
}

// launch starts a server that prepare has configured for a port.
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

// Proxy returns the proxy in front of the server, which clients, replicas and sentinels use; nil if there is
// none.
func (s *Server) Proxy() *Proxy { return s.proxy }

// PublicAddress is where others find the server: the address of its proxy, if it has one.
func (s *Server) PublicAddress() string {
	if s.proxy != nil {
		return s.proxy.Address()
	}
	return s.Address()
}

// Running reports whether the server runs: it was started, and is neither stopped nor paused.
func (s *Server) Running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process != nil && !s.paused
}

// URL returns the URL of the server's database 0, for the user with all rights: the default user, or the
// admin of StartWithAccounts.
func (s *Server) URL() string { return URL(s.Address(), s.admin, s.admin) }

// Dir returns the directory of the server's files.
func (s *Server) Dir() string { return s.dir }

// URL returns the URL of a server for a user; empty means the default user without a password.
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

// Restart starts a stopped server again, at the same address and with the same files.
func (s *Server) Restart() {
	s.t.Helper()
	if err := s.start(); err != nil {
		s.t.Fatalf("redistest: %v", err)
	}
}

// Pause suspends the server (SIGSTOP): its connections stay open and the kernel accepts new ones, but nothing
// answers.
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
		_ = p.cmd.Wait() // the error says that it was killed
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

// waitReady returns when the server answers and has loaded its data.
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

// ping sends PING to an address as a user; empty means the default user.
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
		// A client must authenticate first, also while Redis is loading.
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
	// Any other answer, such as a missing password, comes from a server that is up.
	if strings.HasPrefix(line, "-LOADING") {
		return fmt.Errorf("answer %q", line)
	}
	return nil
}

// kill ends the process of the server. It returns false when the server does not run.
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
	_ = p.cmd.Process.Kill() // fails only when the process has ended
	<-p.ended
}

// end is the test's cleanup. It shows the server's output when the test failed.
func (s *Server) end() {
	s.kill()
	if s.t.Failed() {
		s.t.Logf("output of %s %s:\n%s", binary, s.Address(), &s.said)
	}
}

// lockedBuffer holds the output of a process, and can be read while the process writes.
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
