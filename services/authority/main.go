// Command authority owns the tokens and the enforcement of all apps: it serves management over gRPC and is the only
// writer of the store.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/pkg/grpcserver"
	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/services/authority/server"
	"github.com/countersign/countersign/services/internal/settings"
)

func main() {
	if err := command().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "authority:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "authority",
		Short:         "Own tokens and enforcement: serve management over gRPC and write the store",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	flags := root.Flags()
	listen := settings.Listen(flags, "listen", ":7070", "address of the gRPC server")
	httpListen := settings.Listen(flags, "http-listen", ":7080", "address of the HTTP server for health and metrics")
	redisURL := settings.RedisURL(flags, "redis-url", "redis://localhost:6379/0", "where the store is")
	ring := flags.String("keyring-file", "", "file of the keys that sign the store's records (required)")
	keys := flags.String("admin-keys-file", "", "file of the admin keys that may call")
	insecure := flags.Bool("insecure-dev", false, "let anyone call, on a loopback address only")
	logger := settings.Log(flags, settings.JSON)
	tls := settings.TLS(root)
	_ = root.MarkFlagRequired("keyring-file")
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		log := logger(os.Stderr)
		loaded, err := keyring.Load(*ring)
		if err != nil {
			return fmt.Errorf("--keyring-file: %w", err)
		}
		authority, err := server.New(server.Config{
			GRPC:          grpcserver.Config{Listen: *listen, TLS: *tls},
			HTTP:          grpcserver.HTTPConfig{Listen: *httpListen},
			RedisURL:      *redisURL,
			Ring:          loaded,
			AdminKeysFile: *keys,
			InsecureDev:   *insecure,
			Log:           log,
		})
		if err != nil {
			return err
		}
		ctx, stop := grpcserver.SignalContext(cmd.Context())
		defer stop()
		log.Info("starting", "redis", settings.RedactURL(*redisURL), "ring", loaded)
		return authority.Run(ctx)
	}
	settings.BindEnv(root)
	return root
}
