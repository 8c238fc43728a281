package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/pkg/grpcserver"
	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/services/internal/floorfile"
	"github.com/countersign/countersign/services/internal/settings"
	"github.com/countersign/countersign/services/store/tools"
)

// storeFlags say which store a command is about.
type storeFlags struct {
	redisURL    *string
	keyringFile string
	floorFile   string
}

// newStoreFlags adds the flags, with variables of their own.
func newStoreFlags(cmd *cobra.Command) *storeFlags { return makeStoreFlags(cmd, false) }

// newFloorFlags adds the flags of a command that heeds how far an authority has seen the store.
func newFloorFlags(cmd *cobra.Command) *storeFlags { return makeStoreFlags(cmd, true) }

func makeStoreFlags(cmd *cobra.Command, heedsFloor bool) *storeFlags {
	s := &storeFlags{}
	if heedsFloor {
		cmd.Flags().StringVar(&s.floorFile, "floor-file", "", "`file` in which an authority keeps how far it has seen the store")
	}
	s.redisURL = settings.RedisURL(cmd.Flags(), "redis-url", "", "where the store is: redis://[user:password@]host:port/db; ?master_name=NAME&addr=... for Sentinel, ?cluster=true&addr=... for a Cluster; rediss:// for TLS (required, but to verify a file)")
	cmd.Flags().StringVar(&s.keyringFile, "keyring-file", "", "`file` of the keys that sign the store's records (required)")
	settings.BindEnv(cmd)
	return s
}

// use lets a command work on the store. A store is large, so --timeout bounds it only when it is given; an
// interrupt ends it.
func (s *storeFlags) use(cmd *cobra.Command, g *globals, work func(context.Context, *tools.Tools) error) error {
	ring, err := keyring.Load(s.keyringFile)
	if err != nil {
		return fmt.Errorf("--keyring-file: %w", err)
	}
	url := *s.redisURL
	if url == "" {
		url = "redis://localhost:6379/0" // of a file nothing is asked there
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

// where is how the store is called in answers and errors.
func (s *storeFlags) where() string { return settings.RedactURL(*s.redisURL) }

// about adds to an error which Redis it is about.
func (s *storeFlags) about(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", s.where(), err)
}

// oneFile wants the name of a file as the only argument.
func oneFile(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return misuse("want one FILE")
	}
	return nil
}

// list writes findings, a line for each.
func list[T fmt.Stringer](w io.Writer, all []T) error {
	for _, one := range all {
		if _, err := fmt.Fprintf(w, "  %s\n", one); err != nil {
			return err
		}
	}
	return nil
}

// count says how many there are of something.
func count(n int, of string) string {
	if n == 1 {
		return "1 " + of
	}
	return fmt.Sprintf("%d %ss", n, of)
}
