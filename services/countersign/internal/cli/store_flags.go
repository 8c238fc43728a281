package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/pkg/grpcserver"
	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/services/internal/cmdline"
	"github.com/countersign/countersign/services/internal/floorfile"
	"github.com/countersign/countersign/services/internal/settings"
	"github.com/countersign/countersign/services/store/tools"
)

// storeFlags are the flags that name a store.
type storeFlags struct {
	redisURL    *string
	keyringFile string
	floorFile   string
}

// newStoreFlags adds the flags, with their environment variables.
func newStoreFlags(cmd *cobra.Command) *storeFlags { return makeStoreFlags(cmd, false) }

// newFloorFlags adds the flags of a command that compares the store with an authority's floor file.
func newFloorFlags(cmd *cobra.Command) *storeFlags { return makeStoreFlags(cmd, true) }

// redisURLHelp says which URLs name a Redis.
const redisURLHelp = "redis://[user:password@]host:port/db; ?master_name=NAME&addr=... for Sentinel, " +
	"?cluster=true&addr=... for a Cluster; rediss:// for TLS"

func makeStoreFlags(cmd *cobra.Command, withFloor bool) *storeFlags {
	s := &storeFlags{}
	if withFloor {
		cmd.Flags().StringVar(&s.floorFile, "floor-file", "", "floor `file` of an authority: how far it has seen the store")
	}
	s.redisURL = settings.RedisURL(cmd.Flags(), "redis-url", "",
		"Redis of the store: "+redisURLHelp+" (required, except to verify a file)")
	cmd.Flags().StringVar(&s.keyringFile, "keyring-file", "", "`file` with the keys that sign the store's records (required)")
	settings.BindEnv(cmd)
	return s
}

// use runs work on the store. A store may be large, so --timeout applies only when it is given. An interrupt
// ends the work.
func (s *storeFlags) use(cmd *cobra.Command, g *globals, work func(context.Context, *tools.Tools) error) error {
	ring, err := keyring.Load(s.keyringFile)
	if err != nil {
		return fmt.Errorf("--keyring-file: %w", err)
	}
	url := *s.redisURL
	if url == "" {
		url = "redis://localhost:6379/0" // never contacted: the command verifies a file
	}
	client, err := redisfeed.Open(url, redisfeed.Options{})
	if err != nil {
		return fmt.Errorf("--redis-url: %w", err)
	}
	defer client.Close()
	ctx, stop := grpcserver.SignalContext(cmd.Context())
	defer stop()
	if cmd.Flag("timeout").Changed {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *g.timeout)
		defer cancel()
	}
	operator := tools.New(client, ring)
	if s.floorFile != "" {
		floor, err := floorfile.Read(s.floorFile, ring)
		if err != nil {
			return fmt.Errorf("--floor-file: %w", err)
		}
		operator.UseFloor(floor)
	}
	return work(ctx, operator)
}

// where names the store in output and errors.
func (s *storeFlags) where() string { return settings.RedactURL(*s.redisURL) }

// about adds the store's URL to an error.
func (s *storeFlags) about(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", s.where(), err)
}

// oneFile accepts exactly one argument, a file name.
func oneFile(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return cmdline.Misuse("want one FILE")
	}
	return nil
}

// list writes findings, one on each line.
func list[T fmt.Stringer](w io.Writer, all []T) error {
	for _, one := range all {
		if _, err := fmt.Fprintf(w, "  %s\n", one); err != nil {
			return err
		}
	}
	return nil
}

// count returns a number with its noun, in the singular or plural.
func count(n int, of string) string {
	if n == 1 {
		return "1 " + of
	}
	return fmt.Sprintf("%d %ss", n, of)
}
