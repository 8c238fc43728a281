// Package dev runs a whole Countersign in one process to try it out: a store in memory, an authority, two
// validators, and a demonstration of their decisions. It keeps no data. This package is not part of the
// public API and may change in any release.
package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/pkg/grpcclient"
	"github.com/countersign/countersign/pkg/grpcserver"
	"github.com/countersign/countersign/pkg/keyring"
	engine "github.com/countersign/countersign/pkg/validator"
	authority "github.com/countersign/countersign/services/authority/server"
	"github.com/countersign/countersign/services/internal/adminkeys"
	"github.com/countersign/countersign/services/internal/asynclog"
	"github.com/countersign/countersign/services/internal/daemon"
	"github.com/countersign/countersign/services/internal/settings"
	"github.com/countersign/countersign/services/store"
	"github.com/countersign/countersign/services/store/embedded"
	validator "github.com/countersign/countersign/services/validator/server"
)

// options are the flags of the command. Addresses are host:port.
type options struct {
	app          string
	authority    string
	validators   [2]string
	http         [3]string
	adminKeyFile string
	secretFile   string
	logger       func(io.Writer) *slog.Logger
	dropped      func() uint64
}

// defaultAuthority is the address that the other commands use by default.
const defaultAuthority = "127.0.0.1:7070"

// Command returns `countersign dev`.
func Command() *cobra.Command {
	var o options
	command := &cobra.Command{
		Use:   "dev",
		Short: "Try it out: a store in memory, an authority, two validators and a demo app",
		Long: `Try it out: a store in memory, an authority, two validators and a demo app, in one process on
loopback.

The command creates tokens, shows what both validators decide, and prints commands to try next. It
runs until Ctrl-C and keeps no data.`,
		Example: "  countersign dev",
		Args:    cobra.NoArgs,
	}
	flags := command.Flags()
	flags.StringVar(&o.app, "app", "pezwd5bre2xb", "`id` of the demo app")
	listens := []struct {
		into              *string
		name, value, what string
	}{
		{&o.authority, "authority-listen", defaultAuthority, "the authority's gRPC server"},
		{&o.validators[0], "validator-1-listen", "127.0.0.1:7071", "the first validator's gRPC server"},
		{&o.validators[1], "validator-2-listen", "127.0.0.1:7072", "the second validator's gRPC server"},
		{&o.http[0], "authority-http-listen", "127.0.0.1:7080", "the authority's HTTP server"},
		{&o.http[1], "validator-1-http-listen", "127.0.0.1:7081", "the first validator's HTTP server"},
		{&o.http[2], "validator-2-http-listen", "127.0.0.1:7082", "the second validator's HTTP server"},
	}
	var values []*string
	for _, l := range listens {
		values = append(values, settings.Listen(flags, l.name, l.value, "address of "+l.what))
	}
	flags.StringVar(&o.secretFile, "demo-secret-file", "",
		"new `file` for the demo token's secret (default beside the admin key)")
	o.logger = settings.Log(flags, settings.Text)
	quiet(flags)
	command.RunE = func(cmd *cobra.Command, _ []string) error {
		for i, l := range listens {
			*l.into = *values[i]
		}
		if err := o.files(cmd); err != nil {
			return err
		}
		// The output and the log go to a terminal or a program that may stop reading; the servers must not
		// wait for it.
		stderr := daemon.OpenStderr(cmd.ErrOrStderr())
		defer stderr.End()
		out := asynclog.New(cmd.OutOrStdout(), asynclog.DefaultLimit, func(uint64) []byte { return nil })
		defer out.Close(printBound)
		stderr.Logger(o.logger)
		o.dropped = stderr.Dropped
		hungUp, release := untilHangUp(cmd.Context())
		defer release()
		ctx, stop := grpcserver.SignalContext(hungUp)
		defer stop()
		return run(ctx, o, out, stderr)
	}
	return command
}

// printBound bounds the wait at dev's end for its output to be read.
const printBound = time.Second

// untilHangUp returns a context that is cancelled when dev's terminal is closed, so that dev ends in order
// and leaves no file behind. When dev was started with SIGHUP ignored (nohup), it outlives its terminal. A
// terminal may send the signal more than once.
func untilHangUp(parent context.Context) (ctx context.Context, release func()) {
	ctx, cancel := context.WithCancel(parent)
	if signal.Ignored(syscall.SIGHUP) {
		return ctx, cancel
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	go func() {
		defer cancel()
		select {
		case <-signals:
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(); signal.Stop(signals) }
}

// quiet sets the log level to warnings, so that people can read dev's output.
func quiet(flags *pflag.FlagSet) {
	level := flags.Lookup("log-level")
	level.DefValue = "warn"
	_ = level.Value.Set(level.DefValue)
}

// mustBeFree keeps dev from replacing a file of somebody else, and from removing it at its end. The default
// files belong to dev.
func mustBeFree(flag, path string) error {
	if _, err := os.Lstat(path); path != "" && err == nil {
		return fmt.Errorf("%s: %s exists already; name a new file, which dev creates and removes at its end", flag, path)
	}
	return nil
}

// files sets the paths of the admin key and the demo secret. --admin-key-file is a global flag: dev writes
// the file that the other commands read.
func (o *options) files(cmd *cobra.Command) error {
	if flag := cmd.Flag("admin-key-file"); flag != nil {
		o.adminKeyFile = flag.Value.String()
	}
	if err := mustBeFree("--admin-key-file", o.adminKeyFile); err != nil {
		return err
	}
	if err := mustBeFree("--demo-secret-file", o.secretFile); err != nil {
		return err
	}
	if o.adminKeyFile == "" {
		var err error
		if o.adminKeyFile, err = adminkeys.DefaultKeyFile(); err != nil {
			return fmt.Errorf("--admin-key-file: %w", err)
		}
		if _, port, _ := net.SplitHostPort(o.authority); o.authority != defaultAuthority {
			o.adminKeyFile += "-" + port // the file without a port belongs to a dev at the default address
		}
	}
	if o.secretFile == "" {
		o.secretFile = filepath.Join(filepath.Dir(o.adminKeyFile),
			strings.Replace(filepath.Base(o.adminKeyFile), "admin-key", "demo-secret", 1))
		if o.secretFile == o.adminKeyFile {
			o.secretFile += ".demo-secret"
		}
	}
	return nil
}

// run runs everything until ctx ends or something fails.
func run(ctx context.Context, o options, out, logTo io.Writer) (err error) {
	log := o.logger(logTo)
	ring := keyring.Generate()
	folder, err := os.MkdirTemp("", "countersign-dev-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	keysFile := filepath.Join(folder, "admin-keys.json")
	adminKey, err := adminkeys.Add(keysFile, "dev-admin", adminkeys.Admin)
	if err != nil {
		return err
	}
	fleetKey, err := adminkeys.Add(keysFile, "dev-validators", adminkeys.Validator)
	if err != nil {
		return err
	}
	redis, err := embedded.StartStore(ctx, ring)
	if err != nil {
		return err
	}
	defer redis.Close()

	group, ctx := errgroup.WithContext(ctx)
	config := func(service, listen, httpListen string) daemon.Config {
		return daemon.Config{
			GRPC:     grpcserver.Config{Listen: listen, Reflection: true},
			HTTP:     grpcserver.HTTPConfig{Listen: httpListen},
			RedisURL: redis.URL, Ring: ring, Log: log.With("service", service), DroppedLines: o.dropped,
		}
	}
	owner, err := authority.New(authority.Config{
		Config:        config("authority", o.authority, o.http[0]),
		AdminKeysFile: keysFile,
		Store:         store.Options{Embedded: true},
	})
	if err != nil {
		return portHint(err)
	}
	d := demo{app: o.app, adminKey: adminKey, authority: owner.Addr().String()}
	runs := []func(context.Context) error{owner.Run}
	for i := range o.validators {
		name := fmt.Sprintf("validator-%d", i+1)
		v, err := validator.New(validator.Config{
			Config: config(name, o.validators[i], o.http[1+i]),
			Fleet: engine.Fleet{
				Authority: grpcclient.Address(d.authority), Security: grpcclient.Security{Plaintext: true}, Key: fleetKey, ID: name,
			},
		})
		if err != nil {
			release(runs)
			return portHint(err)
		}
		d.validators = append(d.validators, v.Addr().String())
		runs = append(runs, v.Run)
	}
	for _, run := range runs {
		group.Go(func() error { return run(ctx) })
	}
	group.Go(func() error {
		if err := d.run(ctx, out); err != nil {
			return err
		}
		if err := adminkeys.WritePrivate(o.adminKeyFile, []byte(adminKey.Reveal()+"\n")); err != nil {
			return fmt.Errorf("--admin-key-file: %w", err)
		}
		if err := adminkeys.WritePrivate(o.secretFile, []byte(d.minted.Reveal()+"\n")); err != nil {
			return fmt.Errorf("--demo-secret-file: %w", err)
		}
		d.printNext(out, o)
		return nil
	})
	err = group.Wait()
	removeOurs(o.adminKeyFile, adminKey.Reveal())
	_ = os.Remove(o.secretFile)
	if err == nil || errors.Is(err, context.Canceled) {
		fmt.Fprintln(out, "\nStopped. Nothing was kept.")
		return nil
	}
	return err
}

// release closes servers that were created and must not run: only running a server frees its ports.
func release(runs []func(context.Context) error) {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	for _, run := range runs {
		_ = run(over)
	}
}

// removeOurs removes a key file unless somebody has written another key into it.
func removeOurs(path, key string) {
	if data, err := os.ReadFile(path); err == nil && string(data) == key+"\n" {
		_ = os.Remove(path)
	}
}

func portHint(err error) error {
	return fmt.Errorf("%w (is another dev running? see the -listen flags in countersign dev --help)", err)
}
