package grpcserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/testkit/check"
)

func TestLogCalls(t *testing.T) {
	const secret = "cs_do_not_show"
	calls := new(logs)
	server := start(t, Config{},
		&echo{call: func(_ context.Context, text string) (string, error) {
			switch text {
			case secret + " invalid":
				return "", apierr.Invalid("name", "%s", text)
			case secret + " broken":
				return "", errors.New(text)
			case secret + " panic":
				panic("no value")
			}
			return text, nil
		}},
		grpc.ChainUnaryInterceptor(
			func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
				return handler(logging.InjectFields(ctx, logging.Fields{"injected", secret}), request)
			},
			LogCalls(calls.logger()),
		))
	conn := check.Dial(t, server.Addr().String())
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+secret)
	for _, outcome := range []string{"fine", "invalid", "broken", "panic"} {
		_, err := call(ctx, conn, secret+" "+outcome)
		if (err == nil) != (outcome == "fine") {
			t.Errorf("call %q = %v", outcome, err)
		}
	}
	lines := calls.lines(t, "finished call")
	if len(lines) != 4 || strings.Count(calls.String(), "\n") != 4 {
		t.Fatalf("logged %s, want one line for each call", calls)
	}
	if strings.Contains(calls.String(), secret) {
		t.Errorf("logged %s, with a secret", calls)
	}
	for i, want := range []struct{ level, code string }{
		{"INFO", "OK"}, {"INFO", "InvalidArgument"}, {"ERROR", "Internal"}, {"ERROR", "Internal"},
	} {
		line := lines[i]
		if line["level"] != want.level || line["grpc.code"] != want.code ||
			line["grpc.service"] != echoService || line["grpc.method"] != "Call" {
			t.Errorf("line %d = %v, want %v", i, line, want)
		}
		if _, err := time.ParseDuration(fmt.Sprint(line["grpc.duration"])); err != nil {
			t.Errorf("line %d: duration: %v", i, err)
		}
		if peer := fmt.Sprint(line["peer.address"]); !strings.HasPrefix(peer, "127.0.0.1:") {
			t.Errorf("line %d: peer %q", i, peer)
		}
		want := []string{"grpc.code", "grpc.duration", "grpc.method", "grpc.service", "level", "msg", "peer.address", "time"}
		if got := slices.Sorted(maps.Keys(line)); !slices.Equal(got, want) {
			t.Errorf("line %d has fields %v, want %v", i, got, want)
		}
	}
}
