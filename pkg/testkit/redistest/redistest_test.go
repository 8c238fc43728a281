package redistest

import (
	"bufio"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// probe pings an address. The answer must come within 200 ms.
func probe(address string) error { return ping(address, "", time.Now().Add(200*time.Millisecond)) }

func TestServerAnswersUntilItsTestEnds(t *testing.T) {
	var address string
	var pid int
	t.Run("its test", func(t *testing.T) {
		s := Start(t)
		address, pid = s.Address(), s.process.cmd.Process.Pid
		if err := probe(address); err != nil {
			t.Errorf("a started server does not answer: %v", err)
		}
		if got, want := s.URL(), "redis://"+address+"/0"; got != want {
			t.Errorf("URL %q, want %q", got, want)
		}
	})
	if err := probe(address); err == nil {
		t.Error("the server outlives its test")
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d outlives its test: %v", pid, err)
	}
}

// failing is a test that a helper can fail: Fatal ends the goroutine.
type failing struct {
	testing.TB
	words string
}

func (f *failing) Fatalf(format string, args ...any) {
	f.words = strings.TrimSpace(strings.Join(append([]string{format}, words(args)...), " "))
	panic(f)
}

func words(args []any) (texts []string) {
	for _, arg := range args {
		if err, ok := arg.(error); ok {
			texts = append(texts, err.Error())
		}
	}
	return texts
}

func TestMissingServerFailsAndSaysWhatToInstall(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	f := &failing{TB: t}
	defer func() {
		if recover() != any(f) {
			t.Fatal("a test goes on without a server")
		}
		if !strings.Contains(f.words, "apt-get install redis-server") {
			t.Errorf("the failure does not say what to install: %q", f.words)
		}
	}()
	Start(f)
}

func TestStoppedServerForgetsAndComesBackAtItsAddress(t *testing.T) {
	s := Start(t)
	if got := ask(t, s.Address(), "SET key value"); got != "+OK" {
		t.Fatalf("SET answers %q", got)
	}
	s.Stop()
	if err := probe(s.Address()); err == nil {
		t.Error("a stopped server answers")
	}
	s.Restart()
	if got := ask(t, s.Address(), "GET key"); got != "$-1" && got != "_" {
		t.Errorf("after a restart without persistence the key is %q", got)
	}
}

func TestArgumentsReachTheServer(t *testing.T) {
	s := Start(t, "--appendonly", "yes", "--appendfsync", "always")
	ask(t, s.Address(), "SET key value")
	s.Stop()
	s.Restart()
	if got := ask(t, s.Address(), "GET key"); got != "$5" {
		t.Errorf("after a restart with persistence the key is %q", got)
	}
	if files, err := os.ReadDir(s.Dir()); err != nil || len(files) == 0 {
		t.Errorf("the server's directory holds %v (%v)", files, err)
	}
}

func TestPausedServerAcceptsAndDoesNotAnswer(t *testing.T) {
	s := Start(t)
	s.Pause()
	var timeout net.Error
	if err := probe(s.Address()); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("a paused server: %v, want a timeout", err)
	}
	s.Resume()
	if err := ping(s.Address(), "", time.Now().Add(startTimeout)); err != nil {
		t.Errorf("a resumed server: %v", err)
	}
}

// ask sends one inline command and returns the first line of the answer.
func ask(t *testing.T, address, command string) string {
	t.Helper()
	c := converse(t, address)
	return c.ask(command)
}

type conversation struct {
	t *testing.T
	net.Conn
	reader *bufio.Reader
}

func converse(t *testing.T, address string) *conversation {
	t.Helper()
	connection, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return &conversation{t, connection, bufio.NewReader(connection)}
}

func (c *conversation) send(command string) {
	c.t.Helper()
	if _, err := c.Write([]byte(command + "\r\n")); err != nil {
		c.t.Fatal(err)
	}
}

func (c *conversation) read(within time.Duration) (string, error) {
	c.t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		c.t.Fatal(err)
	}
	line, err := c.reader.ReadString('\n')
	return strings.TrimRight(line, "\r\n"), err
}

func (c *conversation) ask(command string) string {
	c.t.Helper()
	c.send(command)
	line, err := c.read(startTimeout)
	if err != nil {
		c.t.Fatal(err)
	}
	return line
}
