package faults

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/countersign/countersign/pkg/replica"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// logPipe is the standard error of a process, from its start to its end.
type logPipe struct {
	// write stays open, so that only its owner ends the pipe.
	read, write *os.File
	// held is locked while nobody reads.
	held  sync.Mutex
	ended chan struct{}
}

// logPipeSize is small, so that an unread log is full after a few lines.
const logPipeSize = 8 << 10

// newLogPipe returns a pipe with a goroutine that copies it into a file.
func newLogPipe(to *os.File) (*logPipe, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	if _, err := unix.FcntlInt(write.Fd(), unix.F_SETPIPE_SZ, logPipeSize); err != nil {
		return nil, errors.Join(err, read.Close(), write.Close())
	}
	p := &logPipe{read: read, write: write, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		for part := make([]byte, 512); ; {
			n, err := read.Read(part)
			p.held.Lock()
			_, _ = to.Write(part[:n])
			p.held.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return p, nil
}

// waiting returns how many bytes in the pipe have not been read. It returns 0 when the pipe has no reader any
// more.
func (p *logPipe) waiting() int {
	n := 0
	if raw, err := p.read.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	}
	return n
}

// end waits until everything that was written is read.
func (p *logPipe) end() {
	p.write.Close()
	<-p.ended
	p.read.Close()
}

// alive returns the number of the current start of a running process, and its log; 0 when it does not run.
func (p *process) alive() (life int64, log *logPipe) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0, nil
	}
	return p.lives.Load(), p.log
}

func (p *process) same(life int64) bool {
	now, _ := p.alive()
	return now == life
}

// member is a process, with its seat or its authority.
type member struct {
	*process
	seat      *seat      // nil for an authority
	authority *authority // nil for a validator
}

// members returns all members in processes of their own.
func (c *campaign) members() (all []member) {
	for _, a := range c.authorities {
		all = append(all, member{process: a.process, authority: a})
	}
	for _, s := range c.seats[c.options.validators:] {
		all = append(all, member{process: s.process, seat: s})
	}
	return all
}

// stopped reports whether the process is suspended (SIGSTOP).
func (m member) stopped() bool { return m.seat != nil && m.seat.stopped.Load() != 0 }

// gone reports whether a start of the process need not make progress any more: the process was killed or
// suspended, or the campaign is over.
func (m member) gone(ctx context.Context, life int64) bool {
	return !m.same(life) || m.stopped() || ctx.Err() != nil
}

const (
	logStops = "a log that nobody read stopped a process"
	logEnds  = "a closed log ended a process"
)

// logging chooses a process that serves, with the number of its start and its log; nil when the chosen one
// does not serve.
func (c *trouble) logging(ctx context.Context, r *rand.Rand) (m member, life int64, log *logPipe) {
	m = oneOf(r, c.members())
	if life, log = m.alive(); life == 0 || m.stopped() || !m.serving(ctx) {
		return m, 0, nil
	}
	c.note("%s", m.name)
	return m, life, log
}

// blockLog stops reading the log of a process, and makes the process log more than the pipe holds. The
// process must go on.
func blockLog(ctx context.Context, c *trouble, r *rand.Rand) error {
	m, life, log := c.logging(ctx, r)
	if log == nil {
		return errNotNow
	}
	log.held.Lock()
	defer log.held.Unlock()
	full := 0 // how often in a row the pipe accepted nothing
	for until := time.Now().Add(5 * time.Second); full < 3 && time.Now().Before(until) && m.same(life) && ctx.Err() == nil; {
		before := log.waiting()
		m.signal(syscall.SIGHUP) // the process logs some lines for each signal
		pause(ctx, 20*time.Millisecond)
		if full++; log.waiting() != before || before == 0 {
			full = 0
		}
	}
	if full < 3 {
		return errNotNow
	}
	pause(ctx, 3*time.Second+upTo(r, 3*time.Second)) // longer than the data stays fresh
	if m.gone(ctx, life) {
		return nil
	}
	goesOn := false
	for until := time.Now().Add(5 * time.Second); !goesOn && time.Now().Before(until) &&
		ctx.Err() == nil; pause(ctx, pollInterval) {
		goesOn = c.goesOn(ctx, m)
	}
	switch {
	case m.gone(ctx, life):
	case !goesOn && c.staysBehind(ctx, m) && !c.otherwiseTroubled(m):
		c.oracle.violate(logStops, c.oracle.now(), "%s", m.name)
	case goesOn && m.seat != nil:
		c.stats.reach(blockedFollows)
	case goesOn:
		c.stats.reach(blockedAnswers)
	}
	return nil
}

// goesOn reports whether a process still works: a validator follows the store, an authority answers.
func (c *campaign) goesOn(ctx context.Context, m member) bool {
	if m.seat != nil {
		now := m.seat.now.Load()
		if now == nil {
			return false
		}
		answer, err := now.Authorize(ctx, nobodys)
		return err == nil && answer.DataAge < replica.StaleAfter
	}
	ctx, cancel := context.WithTimeout(c.asAdmin(ctx), time.Second)
	defer cancel()
	_, err := m.authority.client.ListValidators(ctx, &countersignv1.ListValidatorsRequest{})
	return err == nil
}

// othersGoOn reports whether another process of the same kind still works. If so, Redis is not the reason why
// this one does not.
func (c *campaign) othersGoOn(ctx context.Context, m member) bool {
	return slices.ContainsFunc(c.members(), func(other member) bool {
		return other.process != m.process && (other.seat == nil) == (m.seat == nil) && c.goesOn(ctx, other)
	})
}

// staysBehind reports whether another process of the same kind works, and this one still does not some
// seconds later. The store may have become whole just before.
func (c *campaign) staysBehind(ctx context.Context, m member) bool {
	for range 4 {
		if !c.othersGoOn(ctx, m) || c.goesOn(ctx, m) {
			return false
		}
		pause(ctx, time.Second)
	}
	return true
}

// otherwiseTroubled reports whether another fault was inflicted on the process.
func (c *trouble) otherwiseTroubled(m member) bool {
	return slices.ContainsFunc(c.faults.during(c.oracle.now(), 15*time.Second), func(i *inflicted) bool {
		return i != c.inflicted && strings.Contains(i.String(), m.name)
	})
}

// closeLog closes the log of a process for the rest of its life, and makes it log something.
func closeLog(ctx context.Context, c *trouble, r *rand.Rand) error {
	m, life, log := c.logging(ctx, r)
	if log == nil {
		return errNotNow
	}
	log.read.Close()
	for range 5 {
		m.signal(syscall.SIGHUP)
		pause(ctx, 20*time.Millisecond)
	}
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); pause(ctx, pollInterval) {
		switch {
		case m.gone(ctx, life):
			return nil
		case m.serving(ctx):
			c.stats.reach(closedWentOn)
			return nil
		}
	}
	c.oracle.violate(logEnds, c.oracle.now(), "%s", m.name)
	return nil
}
