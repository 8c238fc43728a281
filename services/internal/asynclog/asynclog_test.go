package asynclog

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func notice(lines uint64) []byte { return fmt.Appendf(nil, "%d lost\n", lines) }

// file is a file that blocks or returns errors on request.
type file struct {
	mu      sync.Mutex
	text    strings.Builder
	tries   int
	blocked chan struct{} // nil: not blocked
	refuses error
	takes   int // bytes that it accepts before it returns an error
}

func (f *file) Write(data []byte) (int, error) {
	f.mu.Lock()
	blocked := f.blocked
	f.mu.Unlock()
	if blocked != nil {
		<-blocked
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tries++
	if f.refuses != nil {
		n := min(f.takes, len(data))
		f.takes -= n
		f.text.Write(data[:n])
		return n, f.refuses
	}
	return f.text.Write(data)
}

func (f *file) set(change func(*file)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *file) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.text.String()
}

func say(w *Writer, format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }

// TestBlockedFile: a file that blocks delays nobody. Lines without room are dropped and counted, and the log
// reports them where they are missing.
func TestBlockedFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &file{blocked: make(chan struct{})}
		w := New(f, 20, notice)
		say(w, "first") // is being written
		synctest.Wait()
		for i := range 8 {
			say(w, "line %d", i) // 7 bytes each: two find room
		}
		if w.Dropped() != 6 {
			t.Errorf("%d lines were dropped, want 6", w.Dropped())
		}
		unblock := f.blocked
		f.set(func(f *file) { f.blocked = nil })
		close(unblock)
		synctest.Wait()
		say(w, "after it")
		w.Close(time.Second)
		if want := "first\nline 0\nline 1\n6 lost\nafter it\n"; f.String() != want {
			t.Errorf("the log is\n%s\nwant\n%s", f, want)
		}
	})
}

// TestRefusingFile: an error of the file loses only the lines of that write. The Writer does not retry
// without a new line.
func TestRefusingFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &file{refuses: syscall.EPIPE, takes: 2}
		w := New(f, 100, notice)
		for i := range 3 {
			say(w, "line %d", i)
			synctest.Wait()
		}
		time.Sleep(time.Minute)
		if f.tries != 3 || w.Dropped() != 3 {
			t.Errorf("%d tries and %d lines dropped, want 3 and 3", f.tries, w.Dropped())
		}
		f.set(func(f *file) { f.refuses = nil })
		say(w, "after it")
		say(w, "and more")
		w.Close(time.Second)
		if want := "liafter it\n3 lost\nand more\n"; strings.ReplaceAll(f.String(), "and more\n3 lost\n",
			"3 lost\nand more\n") != want {
			t.Errorf("the log is\n%s\nwant\n%s", f, want)
		}
		if w.Dropped() != 3 {
			t.Errorf("%d lines were dropped, want 3", w.Dropped())
		}
	})
}

// TestBusyFile: a file that another process has made non-blocking gets everything, later.
func TestBusyFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &file{refuses: &os.PathError{Op: "write", Path: "stderr", Err: syscall.EAGAIN}, takes: 3}
		w := New(f, 100, notice)
		say(w, "a line")
		time.Sleep(10 * retryPause)
		f.set(func(f *file) { f.refuses = nil })
		w.Close(time.Second)
		if f.String() != "a line\n" || w.Dropped() != 0 {
			t.Errorf("the log is %q, %d lines dropped", f, w.Dropped())
		}
	})
}

// TestClose: Close waits for the lines to be written, and no longer than its bound.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &file{blocked: make(chan struct{})}
		w := New(f, 100, notice)
		say(w, "a line")
		began := time.Now()
		w.Close(3 * time.Second)
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("with a blocked file it took %s, want 3s", took)
		}
		say(w, "too late")
		if w.Dropped() != 1 {
			t.Errorf("%d lines were dropped, want the one after Close", w.Dropped())
		}
		close(f.blocked)
		w.Close(time.Hour)
		if want := "a line\n1 lost\n"; f.String() != want {
			t.Errorf("the log is %q, want %q", f, want)
		}
	})
}

// TestPipes: a pipe that is full, and one without a reader.
func TestPipes(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer write.Close()
	w := New(write, 1000, notice)
	for range 50_000 { // more than a pipe holds
		say(w, "a line of a log")
	}
	if w.Dropped() == 0 {
		t.Error("no line was dropped, though nobody has read")
	}
	read.Close()
	w.Close(time.Minute)
	if n, err := write.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("the pipe accepted %d bytes, %v: it has a reader", n, err)
	}
	if w.Dropped() > 50_000 {
		t.Errorf("%d of 50,000 lines were dropped", w.Dropped())
	}
}
