// Package check shortens what most tests do: take a value or fail, open a gRPC connection, and wait for
// another process. This package is not part of the public API and may change in any release.
package check

import (
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// patience is how long Eventually waits. It is far above what a healthy run needs, so that only a fault
// reaches it.
const patience = 30 * time.Second

// pause is the time between two looks of Eventually.
const pause = 5 * time.Millisecond

// Must returns a function that gives back the value, or fails the test when err is not nil. It is called as
// check.Must(call())(t), because Go passes several results only as the whole list of arguments.
func Must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// NoError fails the test when err is not nil.
func NoError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Dial returns a plain-text connection to a gRPC server and closes it when the test ends. More options may
// be given.
func Dial(t testing.TB, target string, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	options = append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, options...)
	connection, err := grpc.NewClient(target, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}

// Failer is the part of testing.TB that Eventually needs. A testscript.TestScript has it too.
type Failer interface {
	Fatalf(format string, args ...any)
}

// Eventually repeats a check until it returns no error, and fails the test with the last error after 30 s.
// Use it only to wait for another process or server; within one process a test waits for the event itself.
func Eventually(t Failer, what string, check func() error) {
	if t, ok := t.(testing.TB); ok {
		t.Helper()
	}
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(pause)
	}
}
