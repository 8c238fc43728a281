package grpcserver

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/test/bufconn"
)

func startHTTP(t *testing.T, config HTTPConfig) (server *HTTPServer, end context.CancelFunc, wait func() error) {
	t.Helper()
	config.Listen = loopback(t)
	server, err := NewHTTP(config, new(logs).logger())
	if err != nil {
		t.Fatal(err)
	}
	end, wait = serve(t, server.Serve)
	return server, end, wait
}

// client returns a client that closes its connections with the test.
func client(t *testing.T, transport *http.Transport) *http.Client {
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func get(t *testing.T, client *http.Client, url string) (code int, body string) {
	t.Helper()
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func TestProbesAndMetrics(t *testing.T) {
	var unready atomic.Pointer[error]
	registry := prometheus.NewRegistry()
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "test_total", Help: "A test."})
	registry.MustRegister(counter)
	counter.Add(3)
	server, _, _ := startHTTP(t, HTTPConfig{
		Ready: func() error {
			if err := unready.Load(); err != nil {
				return *err
			}
			return nil
		},
		Detail:  func() string { return "in good health" },
		Metrics: registry,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "console "+r.URL.Path) }),
	})
	c, base := client(t, new(http.Transport)), "http://"+server.Addr().String()
	expectGet := func(path string, code int, text string) {
		t.Helper()
		if gotCode, got := get(t, c, base+path); gotCode != code || !strings.Contains(got, text) {
			t.Errorf("GET %s = %d %q, want %d %q", path, gotCode, got, code, text)
		}
	}
	expectGet("/livez", 200, "ok\n")
	expectGet("/readyz", 200, "ok\nin good health\n")
	expectGet("/metrics", 200, "test_total 3\n")
	expectGet("/apps/x", 200, "console /apps/x")
	failure := errors.New("partition 7 is not loaded")
	unready.Store(&failure)
	expectGet("/readyz", 503, "partition 7 is not loaded\n")
	expectGet("/livez", 200, "ok\n")
}

func TestHTTPWithoutOptions(t *testing.T) {
	server, _, _ := startHTTP(t, HTTPConfig{})
	c, base := client(t, new(http.Transport)), "http://"+server.Addr().String()
	for path, want := range map[string]int{"/livez": 200, "/readyz": 200, "/metrics": 404, "/": 404} {
		if code, _ := get(t, c, base+path); code != want {
			t.Errorf("GET %s = %d, want %d", path, code, want)
		}
	}
	response, err := c.Post(base+"/livez", "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST /livez = %d, want 405", response.StatusCode)
	}
}

func TestHTTPOverTLS(t *testing.T) {
	ca := newAuthority(t)
	cert, key := ca.issue(t)
	server, _, _ := startHTTP(t, HTTPConfig{
		TLS: TLS{CertFile: cert, KeyFile: key},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, r.Proto)
		}),
	})
	for _, tt := range []struct {
		http2 bool
		want  string
	}{{false, "HTTP/1.1"}, {true, "HTTP/2.0"}} {
		c := client(t, &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.pool}, ForceAttemptHTTP2: tt.http2})
		if code, got := get(t, c, "https://"+server.Addr().String()); code != 200 || got != tt.want {
			t.Errorf("GET = %d over %q, want 200 over %q", code, got, tt.want)
		}
	}
}

// httpInBubble is an HTTP server in a synctest bubble.
func httpInBubble(t *testing.T, config HTTPConfig) (
	server *HTTPServer, c *http.Client, drained func() (time.Duration, error),
) {
	t.Helper()
	drain, err := config.Drain.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	config.Drain = drain
	listener := bufconn.Listen(1 << 16)
	server = &HTTPServer{config: config, logger: new(logs).logger(), listener: listener, evictor: newConnectionEvictor()}
	ctx, end := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx) }()
	c = client(t, &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return listener.DialContext(ctx)
	}})
	return server, c, func() (time.Duration, error) {
		began := time.Now()
		end()
		err := <-served
		return time.Since(began), err
	}
}

func TestHTTPDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		entered, release := make(chan struct{}), make(chan struct{})
		_, c, drained := httpInBubble(t, HTTPConfig{
			Drain: Drain{Delay: 5 * time.Second},
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				close(entered)
				<-release
				if r.Context().Err() != nil {
					t.Error("the request was cancelled")
				}
				io.WriteString(w, "done")
			}),
		})
		answered := make(chan string, 1)
		go func() {
			_, text := get(t, c, "http://bubble/slow")
			answered <- text
		}()
		<-entered
		go func() {
			time.Sleep(4 * time.Second)
			if code, text := get(t, c, "http://bubble/readyz"); code != 503 || text != "shutting down\n" {
				t.Errorf("GET /readyz during the delay = %d %q", code, text)
			}
			if code, _ := get(t, c, "http://bubble/livez"); code != 200 {
				t.Errorf("GET /livez during the delay = %d", code)
			}
			time.Sleep(4 * time.Second)
			if _, err := c.Get("http://bubble/livez"); err == nil {
				t.Error("GET /livez succeeded after the delay")
			}
			close(release)
		}()
		passed, err := drained()
		if err != nil || passed < 8*time.Second || passed > 9*time.Second {
			t.Errorf("Serve = %v after %s, want nil after 8s, when the request was done", err, passed)
		}
		if got := <-answered; got != "done" {
			t.Errorf("request in flight = %q", got)
		}
		c.CloseIdleConnections()
	})
}

func TestHTTPDrainCutsAtTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		entered, ended := make(chan struct{}), make(chan struct{})
		_, c, drained := httpInBubble(t, HTTPConfig{
			Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				close(entered)
				<-r.Context().Done()
				close(ended)
			}),
		})
		go func() {
			if response, err := c.Get("http://bubble/"); err == nil {
				response.Body.Close()
				t.Error("the hung request was answered")
			}
		}()
		<-entered
		if passed, err := drained(); err != nil || passed != DefaultDrainTimeout {
			t.Errorf("Serve = %v after %s, want nil after %s", err, passed, DefaultDrainTimeout)
		}
		select {
		case <-ended:
		default:
			t.Error("Serve returned before the handler")
		}
		c.CloseIdleConnections()
	})
}

func TestHTTPDrainLeavesBehindARequestThatIgnoresTheCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		entered, release := make(chan struct{}), make(chan struct{})
		_, c, drained := httpInBubble(t, HTTPConfig{
			Drain:   Drain{Timeout: time.Second},
			Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(entered); <-release }),
		})
		go c.Get("http://bubble/")
		<-entered
		if passed, err := drained(); err == nil || passed != time.Second+cutGrace {
			t.Errorf("Serve = %v after %s, want an error after %s", err, passed, time.Second+cutGrace)
		}
		close(release)
		c.CloseIdleConnections()
	})
}

// TestProbesAreAnsweredBesideIdleConnections: probes are answered while as many connections as allowed are
// open, which have sent one request, or nothing, or a part of a request. The probe's own connection is not
// evicted either.
func TestProbesAreAnsweredBesideIdleConnections(t *testing.T) {
	for name, sends := range map[string]string{
		"after a request": "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
		"nothing":         "",
		"a header":        "GET /livez HTTP/1.1\r\n",
		"no body":         "GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
	} {
		for _, encrypted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, TLS %t", name, encrypted), func(t *testing.T) {
				var config HTTPConfig
				transport, scheme := new(http.Transport), "http://"
				connect := net.Dial
				if encrypted {
					ca := newAuthority(t)
					config.TLS.CertFile, config.TLS.KeyFile = ca.issue(t)
					settings := &tls.Config{RootCAs: ca.pool}
					transport.TLSClientConfig, scheme = settings, "https://"
					connect = func(network, address string) (net.Conn, error) { return tls.Dial(network, address, settings) }
				}
				server, _, _ := startHTTP(t, config)
				address := server.Addr().String()
				for range maxHTTPConnections {
					conn, err := connect("tcp", address)
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					if _, err := io.WriteString(conn, sends); err != nil {
						t.Fatal(err)
					}
				}
				for range 3 {
					if code, _ := get(t, client(t, transport), scheme+address+"/livez"); code != http.StatusOK {
						t.Errorf("GET /livez = %d", code)
					}
					transport.CloseIdleConnections()
				}
			})
		}
	}
}

// TestLongestIdleIsEvicted: idle connections are evicted before busy ones, and in each state the connection
// that has been in it for longest.
func TestLongestIdleIsEvicted(t *testing.T) {
	e := newConnectionEvictor()
	connections := map[net.Conn]string{}
	add := func(name string, states ...http.ConnState) {
		near, far := net.Pipe()
		t.Cleanup(func() { far.Close() })
		connections[near] = name
		for _, state := range states {
			e.track(near, state)
		}
	}
	add("closed", http.StateNew, http.StateActive, http.StateClosed)
	add("busy for long", http.StateNew, http.StateActive)
	add("new", http.StateNew)
	add("busy", http.StateNew, http.StateActive, http.StateIdle, http.StateActive)
	add("idle", http.StateNew, http.StateActive, http.StateIdle)
	for _, want := range []string{"new", "idle", "busy for long", "busy", ""} {
		if got := connections[e.pop()]; got != want {
			t.Errorf("%q would be evicted, want %q", got, want)
		}
	}
	if e.evict() {
		t.Error("a connection was evicted, but none is left")
	}
}

// TestSlowHeader: a connection whose header does not arrive within readHeaderTimeout is closed.
func TestSlowHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, c, drained := httpInBubble(t, HTTPConfig{})
		conn, err := server.listener.(*bufconn.Listener).Dial()
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := io.WriteString(conn, "GET /livez HTTP/1.1\r\n"); err != nil {
			t.Fatal(err)
		}
		_, err = bufio.NewReader(conn).ReadString('\n')
		if passed := time.Since(began); err == nil || passed != readHeaderTimeout {
			t.Errorf("read = %v after %s, want the end after %s", err, passed, readHeaderTimeout)
		}
		conn.Close()
		if _, err := drained(); err != nil {
			t.Errorf("Serve = %v", err)
		}
		c.CloseIdleConnections()
	})
}

func TestLateRequestIsRefused(t *testing.T) {
	f := &inFlight{handler: http.NotFoundHandler()}
	f.wait()
	if f.enter() {
		t.Error("a request was accepted after wait")
	}
}

func TestHTTPServeFails(t *testing.T) {
	server, err := NewHTTP(HTTPConfig{Listen: loopback(t)}, new(logs).logger())
	if err != nil {
		t.Fatal(err)
	}
	server.listener.Close()
	if err := server.Serve(t.Context()); err == nil {
		t.Error("Serve = nil when its listener failed")
	}
}
