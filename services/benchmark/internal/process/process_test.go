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

// role is an argument that makes this test binary a child.
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

// child answers each line with the line, and ends at the end of its input.
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
		t.Fatalf("%q: %+v %v", what, s, err)
	}
	return s
}

func TestChild(t *testing.T) {
	c := startChild(t, Start{Env: []string{"CHILD_VARIABLE=value"}})
	if s := ask(t, c, "one"); s.Variable != "value" {
		t.Errorf("%+v", s)
	}
	ask(t, c, "two")
	c.Stop()
	if !c.command.ProcessState.Success() {
		t.Errorf("it ended with %v", c.command.ProcessState)
	}
	c.Stop()
	if err := c.Ask("three", &state{}); err == nil {
		t.Error("it answers when it has ended")
	}
}

func TestChildThatEnds(t *testing.T) {
	c := startChild(t, Start{})
	if err := c.Ask("end", &state{}); err == nil {
		t.Error("there was an answer")
	}
}

func TestCPU(t *testing.T) {
	c := startChild(t, Start{})
	ask(t, c, "begin")
	before, known := c.CPU()
	if !known {
		if runtime.GOOS == "linux" {
			t.Fatal("the CPU time is not known")
		}
		return
	}
	for range 4 {
		ask(t, c, "work")
	}
	// It works for 20 ms. Other programs of this machine may take most of that time.
	if after, _ := c.CPU(); after <= before || before <= 0 {
		t.Errorf("%s, and later %s", before, after)
	}
	if own, known := OwnCPU(); !known || own <= 0 {
		t.Errorf("own CPU time: %s", own)
	}
}

// A child has only its own processors, and its parent still has all.
func TestPinnedChild(t *testing.T) {
	cpus := CPUs()
	if len(cpus) == 0 {
		return // this system cannot pin processes
	}
	for range 4 {
		c := startChild(t, Start{CPUs: cpus[len(cpus)-1:]})
		if s := ask(t, c, "how many"); s.Processors != 1 {
			t.Errorf("it has %d processors, want 1", s.Processors)
		}
	}
	if got := fmt.Sprint(CPUs()); got != fmt.Sprint(cpus) {
		t.Errorf("the parent has %s, had %v", got, cpus)
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
		t.Error("no CPU time")
	}
	r.Kill()
	if files, err := os.ReadDir(folder); err != nil || len(files) > 0 {
		t.Errorf("it left %v %v", files, err)
	}
}
