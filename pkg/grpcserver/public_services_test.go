package grpcserver

import (
	"strings"
	"testing"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"

	"github.com/countersign/countersign/pkg/testkit/rawgrpc"
)

// TestOpenCallsAreBoundedForEachConnection: a connection with as many watches as allowed can still check
// health, and other connections can open watches.
func TestOpenCallsAreBoundedForEachConnection(t *testing.T) {
	server := start(t, Config{Reflection: true}, &echo{call: repeat})
	watch := func(conn *rawgrpc.Conn) uint32 {
		call := conn.Open(healthpb.Health_Watch_FullMethodName)
		conn.Announce(call, 0)
		return call
	}
	check := func(conn *rawgrpc.Conn) {
		t.Helper()
		call := conn.Open(healthpb.Health_Check_FullMethodName)
		conn.Announce(call, 0)
		conn.End(call)
		if code, text := conn.Status(call); code != "0" {
			t.Errorf("a check: %s %s", code, text)
		}
	}
	refused := func(conn *rawgrpc.Conn, call uint32) {
		t.Helper()
		if code, text := conn.Status(call); code != "8" || !strings.Contains(text, "this connection has 4") {
			t.Errorf("a call above the bound: %s %s", code, text)
		}
	}
	greedy := rawgrpc.Dial(t, server.Addr().String())
	var watches []uint32
	for range maxPublicCalls {
		watches = append(watches, watch(greedy))
		greedy.Message(watches[len(watches)-1])
	}
	refused(greedy, watch(greedy))
	refused(greedy, greedy.Open(reflectionpb.ServerReflection_ServerReflectionInfo_FullMethodName))
	check(greedy)
	for range 3 {
		other := rawgrpc.Dial(t, server.Addr().String())
		check(other)
		other.Message(watch(other))
	}
	// Checks whose message never comes take only the slots of unary calls.
	var checks []uint32
	for range maxPublicCalls + 1 {
		checks = append(checks, greedy.Open(healthpb.Health_Check_FullMethodName))
	}
	refused(greedy, greedy.FirstToEnd(checks...)) // which one arrives last is chance
	greedy.Cancel(watches[0])
	for {
		again := watch(greedy)
		if greedy.Answered(again) {
			break
		}
	}
}

// TestWatchTakesOneMessage: a watch ends when its client sends more than one message, so that the rest does
// not stay in memory. A watch whose client sends nothing more goes on.
func TestWatchTakesOneMessage(t *testing.T) {
	server := start(t, Config{}, &echo{call: repeat})
	for name, more := range map[string][]byte{
		"a byte": {0}, "a second message": {0, 0, 0, 0, 0}, "a window of junk": make([]byte, 16<<10),
	} {
		conn := rawgrpc.Dial(t, server.Addr().String())
		watch := conn.Open(healthpb.Health_Watch_FullMethodName)
		conn.Announce(watch, 0)
		conn.Message(watch)
		conn.Send(watch, more)
		if code, text := conn.Status(watch); code != "3" || !strings.Contains(text, "more was sent") {
			t.Errorf("%s: %s %s", name, code, text)
		}
	}
	conn := rawgrpc.Dial(t, server.Addr().String())
	watch := conn.Open(healthpb.Health_Watch_FullMethodName)
	conn.Announce(watch, 0)
	conn.End(watch)
	for state := range 3 {
		conn.NextMessage(watch)
		server.SetServing("", state%2 == 0)
	}
}
