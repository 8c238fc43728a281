// Package daemon is what the commands of the services have in common: flags, log, key ring, signals.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"github.com/countersign/countersign/pkg/grpcserver"
	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/services/internal/settings"
)

// Config is what every service is started with.
type Config struct {
	GRPC     grpcserver.Config
	HTTP     grpcserver.HTTPConfig
	RedisURL string
	// WriteQuorum is how many replicas of Redis the authority waits for after a change, and a read counts only from a
	// master that has as many; 0 asks for none.
	WriteQuorum int
	Ring        *keyring.Ring
	Log         *slog.Logger
}

// Runner is a service that was put together. Run serves until ctx ends, which is not an error.
type Runner interface {
	Run(ctx context.Context) error
}

// Service describes a service.
type Service struct {
	Name, Short string
	// Listen and HTTPListen are the default addresses.
	Listen, HTTPListen string
	// Flags adds flags of the service's own; nil adds none.
	Flags func(*cobra.Command)
	// New puts the service together. It is called when the flags have been read.
	New func(Config) (Runner, error)
}

// NewRegistry returns a registry with what every Go process shows of itself.
func NewRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// Main runs a service until SIGTERM or SIGINT, and returns the exit code of its process.
func Main(s Service) int {
	if err := s.command().Execute(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", s.Name, err)
		return 1
	}
	return 0
}

func (s Service) command() *cobra.Command {
	root := &cobra.Command{
		Use:           s.Name,
		Short:         s.Short,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	flags := root.Flags()
	listen := settings.Listen(flags, "listen", s.Listen, "address of the gRPC server")
	httpListen := settings.Listen(flags, "http-listen", s.HTTPListen, "address of the HTTP server for health and metrics")
	redisURL := settings.RedisURL(flags, "redis-url", "redis://localhost:6379/0", "where the store is: redis://[user:password@]host:port/db; ?master_name=NAME&addr=... for Sentinel, ?cluster=true&addr=... for a Cluster; rediss:// for TLS")
	quorum := flags.Int("write-quorum", 0, "how many `replicas` of the Redis master must have a change before the authority answers, for at most a second "+
		"(short of them it is made all the same, and the answer says so), and must be there for what is read to count as fresh; the same for all services")
	ringFile := flags.String("keyring-file", "", "`file` of the keys that sign the store's records (required)")
	logger := settings.Log(flags, settings.JSON)
	tls := settings.TLS(root)
	_ = root.MarkFlagRequired("keyring-file")
	if s.Flags != nil {
		s.Flags(root)
	}
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		if *quorum < 0 {
			return errors.New("--write-quorum: want 0 or more")
		}
		ring, err := keyring.Load(*ringFile)
		if err != nil {
			return fmt.Errorf("--keyring-file: %w", err)
		}
		// Whoever asks for client certificates does so to keep others out (B27).
		tls.RequireClientCert = tls.ClientCAFile != ""
		log := logger(os.Stderr)
		service, err := s.New(Config{
			GRPC:     grpcserver.Config{Listen: *listen, TLS: *tls},
			HTTP:     grpcserver.HTTPConfig{Listen: *httpListen},
			RedisURL: *redisURL, WriteQuorum: *quorum, Ring: ring, Log: log,
		})
		if err != nil {
			return err
		}
		ctx, stop := grpcserver.SignalContext(cmd.Context())
		defer stop()
		log.Info("starting", "redis", settings.RedactURL(*redisURL), "ring", ring)
		defer context.AfterFunc(ctx, func() { log.Info("stopping: answering what is in flight") })()
		err = service.Run(ctx)
		log.Info("stopped", "error", err)
		return err
	}
	settings.BindEnv(root)
	return root
}
