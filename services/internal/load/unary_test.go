package load

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// A server that accepts few calls, or few bytes, at a time gets all calls, one after the other.
func TestFlowControl(t *testing.T) {
	for name, options := range map[string][]grpc.ServerOption{
		"few streams":  {grpc.MaxConcurrentStreams(3)},
		"small window": {grpc.StaticConnWindowSize(64 << 10), grpc.StaticStreamWindowSize(64 << 10)},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{}
			f.serve(t, options...)
			q, err := NewQuestion(&countersignv1.AuthorizeRequest{
				AppId: "a", Token: strings.Repeat("x", 4096), Scope: 1,
			}, Answer{Decision: allow})
			if err != nil {
				t.Fatal(err)
			}
			r := Closed(t.Context(), f.call(t, 2, nil), NewDeck([]Question{q}, 1), Limits{Calls: 5000}, 200)
			if r.Answered != 5000 || r.Failed()+r.Wrong != 0 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// No call is lost when a server ends old connections.
func TestConnectionsAreReplaced(t *testing.T) {
	f := &fake{}
	f.serve(t, grpc.KeepaliveParams(keepalive.ServerParameters{
		MaxConnectionAge: 20 * time.Millisecond, MaxConnectionAgeGrace: time.Minute,
	}))
	u := f.call(t, 2, nil)
	began := time.Now()
	for time.Since(began) < 200*time.Millisecond {
		r := Closed(t.Context(), u, questions(t, "a1", "b1"), Limits{Calls: 500}, 20)
		if r.Answered != 500 || r.Failed()+r.Wrong != 0 {
			t.Fatalf("%+v", r)
		}
	}
}

// Calls to a server that stopped fail. When another server listens, calls succeed again.
func TestServerThatIsGone(t *testing.T) {
	f := &fake{}
	start := func(address string) *grpc.Server {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		f.address = listener.Addr().String()
		server := grpc.NewServer()
		countersignv1.RegisterValidatorServiceServer(server, f)
		go func() { _ = server.Serve(listener) }()
		return server
	}
	server := start("127.0.0.1:0")
	u := f.call(t, 1, nil)
	if r := Closed(t.Context(), u, questions(t, "a1"), Limits{Calls: 10}, 1); r.Answered != 10 {
		t.Fatalf("%+v", r)
	}
	server.Stop()
	if r := Closed(t.Context(), u, questions(t, "a1"), Limits{Calls: 3}, 1); r.Answered != 0 || r.Errors["Unavailable"] != 3 {
		t.Errorf("without a server: %+v", r)
	}
	defer start(f.address).Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		if r := Closed(ctx, u, questions(t, "a1"), Limits{Calls: 1}, 1); r.Answered == 1 {
			break
		}
		if ctx.Err() != nil {
			t.Fatal("calls do not succeed again")
		}
	}
}

func TestNobodyThere(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	_, err = NewUnary(t.Context(), Endpoint{Address: listener.Addr().String(), Credentials: insecure.NewCredentials()}, 2)
	if err == nil {
		t.Error("connected to nobody")
	}
}

func TestUnknownMethod(t *testing.T) {
	f := &fake{}
	f.serve(t)
	u, err := NewUnary(t.Context(), Endpoint{
		Address: f.address, Method: "/nobody/Nothing", Credentials: insecure.NewCredentials(), Decode: DecodeEmpty,
	}, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if r := Closed(t.Context(), u, questions(t, "a1"), Limits{Calls: 5}, 1); r.Errors["Unimplemented"] != 5 {
		t.Errorf("%+v", r)
	}
}

func TestQuestionTooLarge(t *testing.T) {
	if _, err := NewQuestion(&countersignv1.AuthorizeRequest{Token: strings.Repeat("x", maxMessage)}, Answer{}); err == nil {
		t.Error("it was accepted")
	}
}

func TestDecodeEmpty(t *testing.T) {
	if _, err := DecodeEmpty([]byte{8, 1}); err == nil {
		t.Error("a message that is not empty was accepted")
	}
	if got, err := DecodeEmpty(nil); err != nil || got != (Answer{}) {
		t.Errorf("%v %v", got, err)
	}
}

// Calls to a server that does not speak HTTP/2 fail at once.
func TestNoHTTP2(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			_ = conn.Close()
		}
	}()
	f := &fake{address: listener.Addr().String()}
	if r := Closed(t.Context(), f.call(t, 1, nil), questions(t, "a1"), Limits{Calls: 3}, 1); r.Errors["Unavailable"] != 3 {
		t.Errorf("%+v", r)
	}
}
