package server

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/grpcserver"
	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/internal/adminkeys"
	"github.com/countersign/countersign/services/internal/daemon"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// nowhere is a Redis that does not answer: nothing listens on port 1.
const nowhere = "redis://127.0.0.1:1/0"

func config(listen string, change func(*Config)) Config {
	c := Config{Config: daemon.Config{
		GRPC: grpcserver.Config{Listen: listen}, HTTP: grpcserver.HTTPConfig{Listen: "127.0.0.1:0"},
		RedisURL: nowhere, Ring: keyring.Generate(), Log: slog.New(slog.DiscardHandler),
	}}
	change(&c)
	return c
}

// TestB26_NoStartWithoutIdentities: an authority does not start without a source of identities. InsecureDev,
// which lets anyone in, is allowed on loopback only.
func TestB26_NoStartWithoutIdentities(t *testing.T) {
	file := t.TempDir() + "/admin-keys.json"
	if _, err := adminkeys.Add(file, "ada", adminkeys.Admin); err != nil {
		t.Fatal(err)
	}
	dev := func(c *Config) { c.InsecureDev = true }
	for _, tt := range []struct {
		name   string
		listen string
		change func(*Config)
		want   string // a part of the error; empty for none
	}{
		{"no keys, loopback", "127.0.0.1:0", func(*Config) {}, "--admin-keys-file"},
		{"keys", "127.0.0.1:0", func(c *Config) { c.AdminKeysFile = file }, ""},
		{"keys, every interface", ":0", func(c *Config) { c.AdminKeysFile = file }, ""},
		{"missing keys file", "127.0.0.1:0", func(c *Config) { c.AdminKeysFile = file + ".missing" }, file + ".missing"},
		{"both", "127.0.0.1:0", func(c *Config) { c.AdminKeysFile, c.InsecureDev = file, true }, "--admin-keys-file"},
		{"dev on 127.0.0.1", "127.0.0.1:0", dev, ""},
		{"dev on 127.1.2.3", "127.1.2.3:0", dev, ""},
		{"dev on localhost", "localhost:0", dev, ""},
		{"dev on every interface", ":0", dev, "loopback"},
		{"dev on 0.0.0.0", "0.0.0.0:0", dev, "loopback"},
		{"dev on ::", "[::]:0", dev, "loopback"},
		{"dev on another address", "192.0.2.1:7070", dev, "loopback"},
		{"dev on a name", "localhost.example.com:7070", dev, "loopback"},
		{"dev on a name that begins like loopback", "127.0.0.1.example.com:7070", dev, "loopback"},
		{"dev without a port", "127.0.0.1", dev, "loopback"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := New(config(tt.listen, tt.change))
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Fatalf("got %v, want an error about %s", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			run(t, s)
		})
	}
}

// run runs a server until the test ends.
func run(t *testing.T, s *Server) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// runWithKeys runs a server without a store, and returns an admin key for each of some roles.
func runWithKeys(t *testing.T, roles ...adminkeys.Role) (*Server, []secret.Secret) {
	t.Helper()
	file := t.TempDir() + "/admin-keys.json"
	var keys []secret.Secret
	for _, role := range roles {
		key, err := adminkeys.Add(file, string(role), role)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	s, err := New(config("127.0.0.1:0", func(c *Config) { c.AdminKeysFile = file }))
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	return s, keys
}

// TestB26_HealthNeedsNoIdentity: on a server without a store, health calls need no identity. All other calls
// need one.
func TestB26_HealthNeedsNoIdentity(t *testing.T) {
	s, keys := runWithKeys(t, adminkeys.Admin, adminkeys.Validator)
	key, validator := keys[0], keys[1]
	conn, err := grpc.NewClient(s.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	health, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil || health.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health without a store: got %v, %v", health, err)
	}
	client := countersignv1.NewAuthorityServiceClient(conn)
	_, err = client.ListApps(t.Context(), &countersignv1.ListAppsRequest{})
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("a call without a key: got %v", err)
	}
	_, err = client.ListApps(t.Context(), &countersignv1.ListAppsRequest{}, grpc.PerRPCCredentials(bearer(key.Reveal())))
	if status.Code(err) != codes.Unavailable || apierr.ReasonOf(err) != apierr.NotLoaded {
		t.Errorf("a call without a store: got %v, want UNAVAILABLE %s", err, apierr.NotLoaded)
	}
	fleet := countersignv1.NewFleetServiceClient(conn)
	for key, want := range map[string]codes.Code{
		"": codes.Unauthenticated, key.Reveal(): codes.PermissionDenied, validator.Reveal(): codes.Unavailable,
	} {
		stream, err := fleet.Report(t.Context(), grpc.PerRPCCredentials(bearer(key)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err = stream.Recv(); status.Code(err) != want || apierr.ReasonOf(err) == "" {
			t.Errorf("Report: got %v, want %s with a reason", err, want)
		}
	}
}

// bearer sends an admin key, also over a connection without TLS.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (bearer) RequireTransportSecurity() bool { return false }
