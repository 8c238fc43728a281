package redistest

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/testkit/check"
)

// moment is long enough for a reply on this machine, and a short time to wait for a reply that must not come.
const moment = 200 * time.Millisecond

func TestProxyPassesAndCuts(t *testing.T) {
	p := NewProxy(t, Start(t).Address())
	c := converse(t, p.Address())
	if got := c.ask("PING"); got != "+PONG" {
		t.Fatalf("PING through the proxy: %q", got)
	}
	p.Cut()
	if _, err := c.read(startTimeout); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a cut connection: %v, want its end", err)
	}
	if got := ask(t, p.Address(), "PING"); got != "+PONG" {
		t.Errorf("a new connection after a cut: %q", got)
	}
}

func TestProxyRefusesUntilRestored(t *testing.T) {
	p := NewProxy(t, Start(t).Address())
	p.Refuse()
	c := converse(t, p.Address())
	if _, err := c.read(startTimeout); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a refused connection: %v, want its end", err)
	}
	p.Restore()
	if got := ask(t, p.Address(), "PING"); got != "+PONG" {
		t.Errorf("a connection after Restore: %q", got)
	}
}

func TestProxyBlackHoleHoldsBothDirections(t *testing.T) {
	server := Start(t)
	p := NewProxy(t, server.Address())
	c := converse(t, p.Address())
	c.ask("PING")
	p.BlackHole()
	c.send("INCR requests")
	if line, err := c.read(moment); err == nil {
		t.Errorf("an answer came through: %q", line)
	}
	if got := ask(t, server.Address(), "EXISTS requests"); got != ":0" {
		t.Errorf("a request came through: %q", got)
	}
	p.Restore()
	if line, err := c.read(startTimeout); err != nil || line != ":1" {
		t.Errorf("after Restore: %q, %v", line, err)
	}
}

func TestProxySwallowsRepliesButNotRequests(t *testing.T) {
	server := Start(t)
	p := NewProxy(t, server.Address())
	c := converse(t, p.Address())
	c.ask("PING")
	p.SwallowReplies()
	c.send("INCR requests")
	check.Eventually(t, "the request arrives", func() error {
		if got := ask(t, server.Address(), "GET requests"); got != "$1" {
			return errors.New(got)
		}
		return nil
	})
	if line, err := c.read(moment); err == nil {
		t.Errorf("the reply came through: %q", line)
	}
	p.Cut()
	p.Restore()
	if _, err := c.read(startTimeout); err == nil {
		t.Error("the reply arrived after its connection was cut")
	}
}

func TestProxyDelaysReplies(t *testing.T) {
	p := NewProxy(t, Start(t).Address())
	c := converse(t, p.Address())
	c.ask("PING")
	p.Delay(moment)
	began := time.Now()
	c.ask("PING")
	if took := time.Since(began); took < moment {
		t.Errorf("a delayed reply took %v, want at least %v", took, moment)
	}
}

func TestProxyHalfOpensWhatThereIs(t *testing.T) {
	p := NewProxy(t, Start(t).Address())
	old := converse(t, p.Address())
	old.ask("PING")
	p.HalfOpen()
	old.send("PING")
	if line, err := old.read(moment); err == nil {
		t.Errorf("an answer came through: %q", line)
	}
	if got := ask(t, p.Address(), "PING"); got != "+PONG" {
		t.Errorf("a new connection: %q", got)
	}
	p.Restore()
	if line, err := old.read(startTimeout); err != nil || line != "+PONG" {
		t.Errorf("after Restore: %q, %v", line, err)
	}
}
