// Package daemon holds the parts that the commands of all services share: flags, log, files, key ring and
// signals. This package is not part of the public API and may change in any release.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/pkg/grpcserver"
	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/reload"
	"github.com/countersign/countersign/services/internal/buildinfo"
	"github.com/countersign/countersign/services/internal/settings"
)

// Config configures every service.
type Config struct {
	GRPC     grpcserver.Config
	HTTP     grpcserver.HTTPConfig
	RedisURL string
	// WriteQuorum is the number of Redis replicas for which the authority waits after a change. A read counts
	// as fresh only from a master with as many replicas. 0 means none.
	WriteQuorum int
	Ring        *keyring.Ring
	Log         *slog.Logger
	// Files are the files that are read again when they change; nil: each file is read once.
	Files *reload.Files
	// DroppedLines returns the number of lost log lines; nil: the log loses none.
	DroppedLines func() uint64
}

// Runner is an assembled service. Run serves until ctx ends, which is no error.
type Runner interface {
	Run(ctx context.Context) error
}

// Service describes a service.
type Service struct {
	Name, Short string
	// Listen and HTTPListen are the default addresses.
	Listen, HTTPListen string
	// Flags adds the service's own flags; nil adds none.
	Flags func(*cobra.Command)
	// New assembles the service. It is called after the flags were parsed.
	New func(Config) (Runner, error)
}

// Main runs a service until SIGTERM or SIGINT, and returns the exit code of the process. SIGHUP makes the
// service read its files again.
func Main(s Service) int {
	// Catch SIGHUP from the beginning, so that it does not end a process that is starting.
	hangUps := make(chan os.Signal, 1)
	signal.Notify(hangUps, syscall.SIGHUP)
	stderr := OpenStderr(os.Stderr)
	defer stderr.End()
	if err := s.command(stderr, hangUps).Execute(); err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", s.Name, err)
		return 1
	}
	return 0
}

func (s Service) command(stderr *Stderr, hangUps <-chan os.Signal) *cobra.Command {
	root := &cobra.Command{
		Use:           s.Name,
		Version:       buildinfo.Read().String(),
		Short:         s.Short,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	flags := root.Flags()
	listen := settings.Listen(flags, "listen", s.Listen, "address of the gRPC server")
	httpListen := settings.Listen(flags, "http-listen", s.HTTPListen, "address of the HTTP server for health and metrics")
	redisURL := settings.RedisURL(flags, "redis-url", "redis://localhost:6379/0",
		"Redis of the store: redis://[user:password@]host:port/db; "+
			"?master_name=NAME&addr=... for Sentinel, ?cluster=true&addr=... for a Cluster; rediss:// for TLS")
	quorum := flags.Int("write-quorum", 0, "number of Redis `replicas` that must confirm a change, within a second "+
		"(with fewer the change is made too, and the answer says so), and that a master must have for a read to count as fresh; "+
		"give it to authorities and validators alike")
	ringFile := flags.String("keyring-file", "", "`file` with the keys that sign the store's records (required)")
	logger := settings.Log(flags, settings.JSON)
	tls := settings.TLS(root)
	interval := settings.Duration(flags, "reload-interval", reload.DefaultInterval, 100*time.Millisecond, 24*time.Hour,
		"`time` between two checks for changed files: certificates, certificate authorities, admin keys; SIGHUP checks at once")
	_ = root.MarkFlagRequired("keyring-file")
	if s.Flags != nil {
		s.Flags(root)
	}
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := settings.NoEmptyFlags(flags); err != nil {
			return err
		}
		if *quorum < 0 {
			return errors.New("--write-quorum: want 0 or more")
		}
		ring, err := keyring.Load(*ringFile)
		if err != nil {
			return fmt.Errorf("--keyring-file: %w", err)
		}
		// An operator who gives client certificate authorities wants to keep other clients out (B27).
		tls.RequireClientCert = tls.ClientCAFile != ""
		log := stderr.Logger(logger)
		files := reload.New(*interval, log)
		service, err := s.New(Config{
			GRPC:     grpcserver.Config{Listen: *listen, TLS: *tls, Files: files},
			HTTP:     grpcserver.HTTPConfig{Listen: *httpListen},
			RedisURL: *redisURL, WriteQuorum: *quorum, Ring: ring, Log: log, Files: files, DroppedLines: stderr.Dropped,
		})
		if err != nil {
			return err
		}
		ctx, stop := grpcserver.SignalContext(cmd.Context())
		defer stop()
		log.Info("starting", "redis", settings.RedactURL(*redisURL), "ring", ring)
		defer context.AfterFunc(ctx, func() { log.Info("stopping: finishing calls in flight") })()
		defer KeepReading(files, log, hangUps)()
		err = service.Run(ctx)
		log.Info("stopped", "error", err)
		return err
	}
	settings.BindEnv(root)
	settings.WrapHelp(root)
	return root
}

// KeepReading reads files again when they change, and at once on a signal, until the returned function is
// called.
func KeepReading(files *reload.Files, log *slog.Logger, signals <-chan os.Signal) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { files.Run(ctx) })
	running.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case s := <-signals:
				log.Info("reading files again", "signal", s.String())
				files.Reload(ctx)
			}
		}
	})
	return func() { cancel(); running.Wait() }
}
