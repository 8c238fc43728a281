// Command validator keeps every policy in memory and answers Authorize.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/pkg/grpcserver"
	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/services/internal/settings"
	"github.com/countersign/countersign/services/validator/server"
)

func main() {
	if err := command().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "validator:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "validator",
		Short:         "Keep every policy in memory and answer Authorize over gRPC",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	flags := root.Flags()
	listen := settings.Listen(flags, "listen", ":7071", "address of the gRPC server")
	httpListen := settings.Listen(flags, "http-listen", ":7081", "address of the HTTP server for health and metrics")
	redisURL := settings.RedisURL(flags, "redis-url", "redis://localhost:6379/0", "where the store is; a read-only account is enough")
	ring := flags.String("keyring-file", "", "file of the keys that sign the store's records (required)")
	logger := settings.Log(flags, settings.JSON)
	tls := settings.TLS(root)
	_ = root.MarkFlagRequired("keyring-file")
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		log := logger(os.Stderr)
		loaded, err := keyring.Load(*ring)
		if err != nil {
			return fmt.Errorf("--keyring-file: %w", err)
		}
		// Whoever asks for client certificates does so to keep others out (B27).
		tls.RequireClientCert = tls.ClientCAFile != ""
		validator, err := server.New(server.Config{
			GRPC:     grpcserver.Config{Listen: *listen, TLS: *tls},
			HTTP:     grpcserver.HTTPConfig{Listen: *httpListen},
			RedisURL: *redisURL,
			Ring:     loaded,
			Log:      log,
		})
		if err != nil {
			return err
		}
		ctx, stop := grpcserver.SignalContext(cmd.Context())
		defer stop()
		log.Info("starting", "redis", settings.RedactURL(*redisURL), "ring", loaded)
		return validator.Run(ctx)
	}
	settings.BindEnv(root)
	return root
}
