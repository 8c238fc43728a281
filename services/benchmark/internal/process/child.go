// Package process starts the servers of a comparison: child processes of this program, and a Redis, on CPUs
// of their own, which end with their parent. It reads how much CPU each of them has had. This package is not
// part of the public API and may change in any release.
package process

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// stopTimeout is how long a child may take to end in order.
const stopTimeout = 10 * time.Second

// Start says how a child is started.
type Start struct {
	// Args are the arguments of this very program.
	Args []string
	// Env are variables beside those of this process, such as GOGC=400.
	Env []string
	// CPUs are those that it may run on; none is all.
	CPUs []int
	// Output takes what it writes to its standard error.
	Output io.Writer
}

// Child is a process of this program that takes commands as lines of JSON on its standard input, and
// answers each with a line. It ends when its standard input does. Ask is for one goroutine at a time.
type Child struct {
	*running
	commands io.WriteCloser
	answers  *bufio.Scanner
}

// New starts a child.
func New(s Start) (*Child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	command := exec.Command(self, s.Args...)
	command.Args[0] = os.Args[0] // programs that look at their name find the same one
	command.Env = append(os.Environ(), s.Env...)
	command.Stderr = s.Output
	commands, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	output, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c := &Child{commands: commands, answers: bufio.NewScanner(output)}
	if c.running, err = launch(command, s.CPUs); err != nil {
		return nil, err
	}
	return c, nil
}

// Ask sends a command and reads the answer into a pointer.
func (c *Child) Ask(command, answer any) error {
	line, err := json.Marshal(command)
	if err != nil {
		return err
	}
	if _, err := c.commands.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("a child process ended: %w", err)
	}
	if !c.answers.Scan() {
		return errors.Join(errors.New("a child process ended instead of answering"), c.answers.Err())
	}
	return json.Unmarshal(c.answers.Bytes(), answer)
}

// Stop ends the child in order, or, when that takes too long, as it is. It may be called more than once.
func (c *Child) Stop() {
	_ = c.commands.Close()
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-c.ended:
	case <-timer.C:
		c.Kill()
	}
}

// running is a process that was started.
type running struct {
	command *exec.Cmd
	ended   chan struct{}
}

func launch(command *exec.Cmd, cpus []int) (*running, error) {
	apart(command)
	if err := onCPUs(cpus, command.Start); err != nil {
		return nil, fmt.Errorf("%s: %w", command.Path, err)
	}
	r := &running{command: command, ended: make(chan struct{})}
	go func() {
		_ = command.Wait() // how it ended is nobody's business: whoever needs it finds that it does not answer
		close(r.ended)
	}()
	return r, nil
}

// Kill ends the process, and only that one, and returns when it has ended.
func (r *running) Kill() {
	_ = r.command.Process.Kill() // fails only when it has ended
	<-r.ended
}

// CPU returns how much time the process has had of the processors, to the nanosecond where the system says
// so; false when it does not say.
func (r *running) CPU() (time.Duration, bool) { return cpuOf(r.command.Process.Pid) }
