package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/countersign/countersign/pkg/testkit/testport"
)

// devPatience bounds every wait. A busy machine with the race detector is slow.
const devPatience = time.Minute

// devProcess is `countersign dev` in its own process, after it has printed its addresses.
type devProcess struct {
	cmd *exec.Cmd
	// out and log are the pipes of its standard output and error.
	out, log *os.File
	writers  []*os.File
	keyFile  string
}

func startDev(t *testing.T) *devProcess {
	t.Helper()
	d := &devProcess{keyFile: filepath.Join(t.TempDir(), "admin-key")}
	args := []string{"dev", "--log-level=debug", "--admin-key-file=" + d.keyFile}
	for _, flag := range []string{
		"authority-listen", "validator-1-listen", "validator-2-listen", "authority-http-listen",
		"validator-1-http-listen", "validator-2-http-listen",
	} {
		args = append(args, fmt.Sprintf("--%s=127.0.0.1:%d", flag, testport.Free(t)))
	}
	d.cmd = exec.Command("countersign", args...)
	pipe := func() (read, write *os.File) {
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		d.writers = append(d.writers, write)
		t.Cleanup(func() { read.Close(); write.Close() })
		return read, write
	}
	var out, log *os.File
	d.out, out = pipe()
	d.log, log = pipe()
	d.cmd.Stdout, d.cmd.Stderr = out, log
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.cmd.Process.Kill() })
	for _, read := range []*os.File{d.out, d.log} {
		if err := read.SetReadDeadline(time.Now().Add(devPatience)); err != nil {
			t.Fatal(err)
		}
	}
	lines := bufio.NewScanner(d.out)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "Ctrl-C") {
			return d
		}
	}
	said, _ := io.ReadAll(d.log)
	t.Fatalf("dev did not start: %v\n%s", lines.Err(), said)
	return nil
}

// end sends a signal, and fails the test unless dev ends in order.
func (d *devProcess) end(t *testing.T, s syscall.Signal) {
	t.Helper()
	if _, err := os.Stat(d.keyFile); err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- d.cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("dev ended with %v", err)
		}
	case <-time.After(devPatience):
		t.Error("dev does not end")
	}
	if _, err := os.Stat(d.keyFile); err == nil {
		t.Error("dev has left its admin key behind")
	}
}

// TestDevEndsInOrder: dev ends in order when its terminal is closed, and also when nobody reads its output
// and log.
func TestDevEndsInOrder(t *testing.T) {
	t.Run("hang-up", func(t *testing.T) {
		// The tests may have been started with SIGHUP ignored, as by nohup. dev would inherit that and
		// continue. A signal that is handled here is not ignored there (execve(2)).
		handled := make(chan os.Signal, 1)
		signal.Notify(handled, syscall.SIGHUP)
		defer signal.Stop(handled)
		startDev(t).end(t, syscall.SIGHUP)
	})
	t.Run("closed", func(t *testing.T) {
		d := startDev(t)
		d.out.Close()
		d.log.Close()
		d.end(t, syscall.SIGTERM)
	})
	t.Run("blocked", func(t *testing.T) {
		d := startDev(t)
		page := bytes.Repeat([]byte{'\n'}, os.Getpagesize())
		for _, w := range d.writers {
			for {
				ready, err := unix.Poll([]unix.PollFd{{Fd: int32(w.Fd()), Events: unix.POLLOUT}}, 0)
				if err != nil {
					t.Fatal(err)
				}
				if ready == 0 {
					break
				}
				if _, err := w.Write(page); err != nil {
					t.Fatal(err)
				}
			}
		}
		d.end(t, syscall.SIGTERM)
	})
}
