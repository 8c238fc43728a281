package store_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/testkit/check"
)

// fault is what a proxy does to one command.
type fault int

const (
	pass    fault = iota
	before        // the connection ends and the command never arrives
	middle        // the connection ends after half of the command
	after         // the command is carried out, and the connection ends before the reply
	late          // the connection ends; the command is carried out when the next one of its name was
	waiting       // the command is carried out when the proxy is released
	holding       // the command is carried out, and the reply comes when the proxy is released
)

// proxy is a proxy in front of a Redis that recognises commands (Redis serialization protocol).
type proxy struct {
	t        testing.TB
	target   string
	listener net.Listener
	done     sync.WaitGroup
	// held is closed when the first command or reply is held back. Closing release lets all of them pass.
	held     chan struct{}
	hold     func()
	release  func()
	released chan struct{}

	mu     sync.Mutex
	judge  func(command string) fault
	open   map[net.Conn]bool
	late   map[string][][]byte
	closed bool
}

func startProxy(t testing.TB, target string) *proxy {
	t.Helper()
	p := &proxy{
		t: t, target: target, listener: check.Must(net.Listen("tcp", "127.0.0.1:0"))(t), held: make(chan struct{}),
		released: make(chan struct{}),
		open:     map[net.Conn]bool{}, late: map[string][][]byte{},
	}
	p.hold = sync.OnceFunc(func() { close(p.held) })
	p.release = sync.OnceFunc(func() { close(p.released) })
	p.done.Go(func() {
		for {
			client, err := p.listener.Accept()
			if err != nil {
				return
			}
			p.done.Go(func() { p.serve(client) })
		}
	})
	t.Cleanup(func() {
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		_ = p.listener.Close()
		p.release()
		p.cut()
		p.done.Wait()
	})
	return p
}

func (p *proxy) url() string { return "redis://" + p.listener.Addr().String() + "/0" }

// awaitHeld returns when a command or a reply is held back.
func (p *proxy) awaitHeld(t testing.TB) {
	t.Helper()
	select {
	case <-p.held:
	case <-time.After(patience):
		t.Fatal("nothing came that could be held")
	}
}

// spoil sets the function that decides the fault of each command; nil lets all pass.
func (p *proxy) spoil(judge func(command string) fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.judge = judge
}

// cut ends every connection.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		_ = c.Close()
	}
}

func (p *proxy) enter(connections ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range connections {
		p.open[c] = true
	}
	return !p.closed
}

func (p *proxy) leave(connections ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range connections {
		delete(p.open, c)
	}
}

func (p *proxy) verdict(command string) fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.judge == nil {
		return pass
	}
	return p.judge(command)
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer server.Close()
	defer p.leave(client, server)
	if !p.enter(client, server) {
		return
	}
	// due is the fault for the next reply, with the name of its command.
	var due atomic.Pointer[pending]
	p.done.Go(func() {
		defer client.Close()
		defer server.Close()
		p.replies(client, server, &due)
	})
	reader := bufio.NewReader(client)
	for {
		command, raw, err := readCommand(reader)
		if err != nil {
			return
		}
		switch f := p.verdict(command); f {
		case before:
			return
		case middle:
			_, _ = server.Write(raw[:len(raw)/2])
			return
		case waiting:
			p.hold()
			<-p.released
		case late:
			p.mu.Lock()
			p.late[command] = append(p.late[command], raw)
			p.mu.Unlock()
			return
		default:
			due.Store(&pending{command, f})
		}
		if _, err := server.Write(raw); err != nil {
			return
		}
	}
}

type pending struct {
	command string
	fault   fault
}

func (p *proxy) replies(client, server net.Conn, due *atomic.Pointer[pending]) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		what := due.Swap(nil)
		if what != nil {
			p.deliver(what.command)
			switch what.fault {
			case after:
				return
			case holding:
				p.hold()
				<-p.released
			}
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// deliver runs delayed commands on new connections.
func (p *proxy) deliver(command string) {
	p.mu.Lock()
	raws := p.late[command]
	delete(p.late, command)
	p.mu.Unlock()
	for _, raw := range raws {
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			return
		}
		if _, err := server.Write(raw); err == nil {
			_, _ = server.Read(make([]byte, 1))
		}
		_ = server.Close()
	}
}

// readCommand reads one command: an array of bulk strings. It returns its name and its bytes.
func readCommand(r *bufio.Reader) (name string, raw []byte, err error) {
	var all bytes.Buffer
	number := func(prefix string) (int, error) {
		line, err := r.ReadString('\n')
		all.WriteString(line)
		if err != nil {
			return 0, err
		}
		digits, found := strings.CutPrefix(strings.TrimSpace(line), prefix)
		if !found {
			return 0, io.ErrUnexpectedEOF
		}
		return strconv.Atoi(digits)
	}
	parts, err := number("*")
	for i := 0; i < parts && err == nil; i++ {
		var length int
		if length, err = number("$"); err != nil {
			break
		}
		start := all.Len()
		if _, err = io.CopyN(&all, r, int64(length)+2); err == nil && i == 0 {
			name = strings.ToLower(string(all.Bytes()[start : start+length]))
		}
	}
	return name, all.Bytes(), err
}
