package grpcserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for another goroutine or process. It is long because a busy machine is slow.
const patience = 30 * time.Second

// childVariable makes the test binary run as the process that gets the signals.
const childVariable = "SIGNAL_TEST_CHILD"

func TestSignalContext(t *testing.T) {
	if os.Getenv(childVariable) != "" {
		child()
		return
	}
	for _, number := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(number.String(), func(t *testing.T) {
			command := exec.Command(os.Args[0], "-test.run=^TestSignalContext$")
			command.Env = append(os.Environ(), childVariable+"=1")
			output, err := command.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := command.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = command.Process.Kill() })
			// A process that hangs is killed. That ends its output, which fails the test.
			defer time.AfterFunc(patience, func() { _ = command.Process.Kill() }).Stop()
			lines := bufio.NewScanner(output)
			for _, want := range []string{"started", "asked to end"} {
				if !lines.Scan() || lines.Text() != want {
					t.Fatalf("the process printed %q, want %q", lines.Text(), want)
				}
				if err := command.Process.Signal(number); err != nil {
					t.Fatal(err)
				}
			}
			var exit *exec.ExitError
			if err := command.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != number {
				t.Errorf("after the second signal the process ended with %v, want %v", err, number)
			}
		})
	}
}

// child is a process that hangs in its drain.
func child() {
	ctx, stop := SignalContext(context.Background())
	defer stop()
	fmt.Println("started")
	<-ctx.Done()
	fmt.Println("asked to end")
	select {}
}

func TestSignalContextIsReleased(t *testing.T) {
	ctx, stop := SignalContext(t.Context())
	stop()
	select {
	case <-ctx.Done():
	case <-time.After(patience):
		t.Error("the context is not done after stop")
	}
}
