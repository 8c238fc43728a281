package server_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/countersign/countersign/pkg/grpcserver"
	"github.com/countersign/countersign/pkg/testkit/check"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/internal/daemon"
	"github.com/countersign/countersign/services/test/cluster"
	"github.com/countersign/countersign/services/validator/server"
)

// TestUncounted: a validator counts its decisions, unless it is started for a measurement without counting.
func TestUncounted(t *testing.T) {
	c := cluster.Start(t, cluster.Options{})
	admin := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+c.AdminKey.Reveal())
	check.Must(countersignv1.NewAuthorityServiceClient(check.Dial(t, c.Authority)).
		CreateToken(admin, &countersignv1.CreateTokenRequest{AppId: "app", Name: "token"}))(t)
	for entries, uncounted := range map[string]bool{"countersign_usage_entries 1": false, "countersign_usage_entries 0": true} {
		s := check.Must(server.New(server.Config{Uncounted: uncounted, Config: daemon.Config{
			GRPC: grpcserver.Config{Listen: "127.0.0.1:0"}, HTTP: grpcserver.HTTPConfig{Listen: "127.0.0.1:0"},
			RedisURL: c.RedisURL, Ring: c.Ring, Log: slog.New(slog.DiscardHandler),
		}}))(t)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		validator := countersignv1.NewValidatorServiceClient(check.Dial(t, s.Addr().String()))
		check.Eventually(t, "a decision", func() error {
			_, err := validator.Authorize(t.Context(), &countersignv1.AuthorizeRequest{
				AppId: "app", Scope: countersignv1.Scope_SCOPE_EVENTS,
			}, grpc.WaitForReady(true))
			return err
		})
		response := check.Must(http.Get("http://" + s.HTTPAddr().String() + "/metrics"))(t)
		metrics := check.Must(io.ReadAll(response.Body))(t)
		response.Body.Close()
		if !strings.Contains(string(metrics), entries+"\n") {
			t.Errorf("uncounted %t: the metrics do not have %s", uncounted, entries)
		}
		stop()
		check.NoError(t, <-ended)
	}
}
