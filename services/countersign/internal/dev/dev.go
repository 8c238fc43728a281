// Package dev runs a whole Countersign in one process, for trying it out: an embedded store, an authority,
// two validators, and a demonstration of what they decide. Nothing is kept.
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

// defaultAuthority is where the other commands look for an authority.
const defaultAuthority = "127.0.0.1:7070"

// Command returns `countersign dev`.
func Command() *cobra.Command {
	var o options
	command := &cobra.Command{
		Use:   "dev",
		Short: "Try it out: an embedded store, an authority, two validators and a demo app",
		Long: `Try it out: an embedded store, an authority, two validators and a demo app, in one process on loopback.

It makes a token, shows what both validators decide, prints commands to go on with, and runs until Ctrl-C. The data
is in memory and gone then.`,
		Example: "  countersign dev",
		Args:    cobra.NoArgs,
	}
	flags := command.Flags()
	flags.StringVar(&o.app, "app", "pezwd5bre2xb", "id of the demo app")
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
	flags.StringVar(&o.secretFile, "demo-secret-file", "", "where to write the demo token's secret (default beside the admin key)")
	o.logger = settings.Log(flags, settings.Text)
	quiet(flags)
	command.RunE = func(cmd *cobra.Command, _ []string) error {
		for i, l := range listens {
			*l.into = *values[i]
		}
		if err := o.files(cmd); err != nil {
			return err
		}
		// Both go to a terminal, or to a program that may read no further; the servers serve others.
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

// printBound is how long dev, when it ends, waits for somebody to read what it has printed.
const printBound = time.Second

// untilHangUp returns a context that is done when the terminal of dev is closed: dev ends in order then,
// and leaves no file behind. Started so that it outlives its terminal (nohup), it does. A terminal may send
// the signal more than once.
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

// quiet makes warnings the least that is logged: what dev prints is for reading.
func quiet(flags *pflag.FlagSet) {
	level := flags.Lookup("log-level")
	level.DefValue = "warn"
	_ = level.Value.Set(level.DefValue)
}

// mustBeFree keeps dev from replacing, and at its end removing, a file that somebody else has made. The
// default files are dev's own.
func mustBeFree(flag, path string) error {
	if _, err := os.Lstat(path); path != "" && err == nil {
		return fmt.Errorf("%s: %s is there already; name a file that dev may make, and remove at its end", flag, path)
	}
	return nil
}

// files fills in where the admin key and the demo secret go. --admin-key-file is a flag of the whole
// program: what the other commands read, this one writes.
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
			o.adminKeyFile += "-" + port // the other one is that of a dev at the usual address
		}
	}
	if o.secretFile == "" {
		o.secretFile = filepath.Join(filepath.Dir(o.adminKeyFile), strings.Replace(filepath.Base(o.adminKeyFile), "admin-key", "demo-secret", 1))
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

// release gives up servers that were made and shall not run: only running them lets go of their ports.
func release(runs []func(context.Context) error) {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	for _, run := range runs {
		_ = run(over)
	}
}

// removeOurs removes a key file that nobody has put another key into meanwhile.
func removeOurs(path, key string) {
	if data, err := os.ReadFile(path); err == nil && string(data) == key+"\n" {
		_ = os.Remove(path)
	}
}

func portHint(err error) error {
	return fmt.Errorf("%w (is another one running? see the -listen flags of countersign dev --help)", err)
}
