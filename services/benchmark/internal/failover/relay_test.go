package failover

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// echoServer sends all bytes back, until the test ends.
func echoServer(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return listener.Addr().String()
}

// exchange sends a byte and reads one. It returns os.ErrDeadlineExceeded when no byte comes in time.
func exchange(t *testing.T, c net.Conn, timeout time.Duration) error {
	t.Helper()
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		t.Fatal(err)
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

func TestRelay(t *testing.T) {
	const long, short = time.Minute, 50 * time.Millisecond
	r, err := newRelay(echoServer(t))
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", r.address())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	first := dial()
	if err := exchange(t, first, long); err != nil {
		t.Fatalf("the relay forwards nothing: %v", err)
	}
	if n := r.count(); n != 1 {
		t.Errorf("%d bytes were counted", n)
	}

	r.drop(true)
	second := dial()
	for name, c := range map[string]net.Conn{"an open connection": first, "a new one": second} {
		if err := exchange(t, c, short); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %v, want silence", name, err)
		}
	}
	r.drop(false)
	if err := exchange(t, first, long); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection with dropped bytes: %v, want its end", err)
	}
	if err := exchange(t, dial(), long); err != nil {
		t.Errorf("a new connection: %v", err)
	}

	r.setTarget("")
	if err := exchange(t, dial(), long); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("without a target: %v, want the end", err)
	}
	r.setTarget(echoServer(t))
	if err := exchange(t, dial(), long); err != nil {
		t.Errorf("another target: %v", err)
	}
}
