package process

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// With role as its first argument, this test binary runs as a child process.
const role = "be-a-child"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == role {
		child()
		return
	}
	goleak.VerifyTestMain(m)
}

type state struct {
	Said       string
	Processors int
	Variable   string
}

// child answers each line with a state that repeats the line. It exits at the end of its input, or without an
// answer at "end". At "work" it keeps a CPU busy for 5 ms.
func child() {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var said string
		_ = json.Unmarshal(lines.Bytes(), &said)
		if said == "end" {
			return
		}
		for began := time.Now(); said == "work" && time.Since(began) < 5*time.Millisecond; {
			_ = began
		}
		_ = json.NewEncoder(os.Stdout).Encode(state{said, runtime.NumCPU(), os.Getenv("CHILD_VARIABLE")})
	}
}

func startChild(t *testing.T, s Start) *Child {
	t.Helper()
	s.Args, s.Output = []string{role}, &bytes.Buffer{}
	c, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	return c
}

func ask(t *testing.T, c *Child, what string) (s state) {
	t.Helper()
	if err := c.Ask(what, &s); err != nil || s.Said != what {
		t.Fatalf("Ask(%q): got %+v, error %v; want the same text and no error", what, s, err)
	}
	return s
}

func TestChild(t *testing.T) {
	c := startChild(t, Start{Env: []string{"CHILD_VARIABLE=value"}})
	if s := ask(t, c, "one"); s.Variable != "value" {
		t.Errorf("CHILD_VARIABLE in the child: got %q, want value", s.Variable)
	}
	ask(t, c, "two")
	c.Stop()
	if !c.command.ProcessState.Success() {
		t.Errorf("the child exited with %v, want success", c.command.ProcessState)
	}
	c.Stop()
	if err := c.Ask("three", &state{}); err == nil {
		t.Error("Ask after Stop: got an answer, want an error")
	}
}

func TestChildThatEnds(t *testing.T) {
	c := startChild(t, Start{})
	if err := c.Ask("end", &state{}); err == nil {
		t.Error("Ask of a child that exits: got an answer, want an error")
	}
}

func TestCPU(t *testing.T) {
	c := startChild(t, Start{})
	ask(t, c, "begin")
	before, known := c.CPU()
	if !known {
		if runtime.GOOS == "linux" {
			t.Fatal("the CPU time is unknown, want it on Linux")
		}
		return
	}
	for range 4 {
		ask(t, c, "work")
	}
	// The child works for 20 ms of wall-clock time. Other programs may use the CPU for most of that time.
	if after, _ := c.CPU(); after <= before || before <= 0 {
		t.Errorf("CPU time %s, and after work %s; want more than 0, and then more", before, after)
	}
	if own, known := OwnCPU(); !known || own <= 0 {
		t.Errorf("own CPU time: got %s, known %t; want more than 0", own, known)
	}
}

// A child that is pinned to one CPU has only this CPU. Its parent still has all CPUs.
func TestPinnedChild(t *testing.T) {
	cpus := CPUs()
	if len(cpus) == 0 {
		return // this system cannot pin processes
	}
	for range 4 {
		c := startChild(t, Start{CPUs: cpus[len(cpus)-1:]})
		if s := ask(t, c, "how many"); s.Processors != 1 {
			t.Errorf("the child has %d CPUs, want 1", s.Processors)
		}
	}
	if got := fmt.Sprint(CPUs()); got != fmt.Sprint(cpus) {
		t.Errorf("the parent has CPUs %s, want %v", got, cpus)
	}
}

func TestRedis(t *testing.T) {
	if !HasRedis() {
		t.Fatal("the tests need a redis-server on the PATH")
	}
	folder := t.TempDir()
	r, err := NewRedis(t.Context(), folder, nil)
	if err != nil {
		t.Fatal(err)
	}
	if cpu, known := r.CPU(); known && cpu <= 0 {
		t.Error("CPU time of Redis: got 0, want more")
	}
	r.Kill()
	if files, err := os.ReadDir(folder); err != nil || len(files) > 0 {
		t.Errorf("files of Redis after Kill: got %v, error %v; want none", files, err)
	}
}
