// Package process starts child processes of this program, and a Redis, on processors of their own. It reads
// their CPU time. All of them end with this process.
//
// This package is not part of the public API and may change in any release.
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

// stopTimeout bounds the time in which a child ends in order.
const stopTimeout = 10 * time.Second

// Start says how a child is started.
type Start struct {
	// Args are the arguments of this program.
	Args []string
	// Env are added to the environment variables of this process, for example GOGC=400.
	Env []string
	// CPUs are the processors that the child may run on; empty is all.
	CPUs []int
	// Output receives the child's standard error.
	Output io.Writer
}

// Child is a process of this program. It reads commands as lines of JSON from its standard input, and answers
// each with a line. It ends at the end of its input. Ask is for one goroutine at a time.
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
	command.Args[0] = os.Args[0] // programs that depend on their name find the same name
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

// Stop ends the child in order, or kills it after stopTimeout. It may be called more than once.
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

// running is a started process.
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
		_ = command.Wait() // the result is of no use: callers of Ask notice the end
		close(r.ended)
	}()
	return r, nil
}

// Kill ends the process at once, and returns when it has ended.
func (r *running) Kill() {
	_ = r.command.Process.Kill() // fails only when the process has ended
	<-r.ended
}

// CPU returns the CPU time of the process so far; false when the system does not tell it.
func (r *running) CPU() (time.Duration, bool) { return cpuOf(r.command.Process.Pid) }
