// Package process starts child processes of this program, and a Redis server. On Linux it can pin them to
// CPUs, reads their CPU time, and makes the kernel kill them when this process dies. On other systems child
// processes still exit when this process does, because their standard input is closed.
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

// stopTimeout is how long Stop waits for a child to exit before it kills the child.
const stopTimeout = 10 * time.Second

// Start says how to start a child.
type Start struct {
	// Args are the command line arguments of the child.
	Args []string
	// Env are added to the environment variables of this process, for example GOGC=400.
	Env []string
	// CPUs are the CPUs that the child may run on; empty means no restriction. Systems other than Linux
	// ignore them.
	CPUs []int
	// Output receives the child's standard error.
	Output io.Writer
}

// Child is a running process of this program. It must read commands as lines of JSON from its standard input,
// answer each with one line of JSON, and exit when its standard input is closed. Only one goroutine at a time
// may call Ask.
type Child struct {
	*running
	commands io.WriteCloser
	answers  *bufio.Scanner
}

// New starts a child. The caller must Stop it.
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

// Ask sends a command and decodes the answer into the value to which answer points.
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

// Stop closes the child's standard input and waits until the child has exited. After stopTimeout it kills the
// child. It may be called more than once.
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
		_ = command.Wait() // the result is not needed: Ask fails when the child has exited
		close(r.ended)
	}()
	return r, nil
}

// Kill kills the process and waits until it has exited.
func (r *running) Kill() {
	_ = r.command.Process.Kill() // fails only when the process has exited
	<-r.ended
}

// CPU returns the CPU time of the process so far. It returns false when the system does not report it.
func (r *running) CPU() (time.Duration, bool) { return cpuOf(r.command.Process.Pid) }
