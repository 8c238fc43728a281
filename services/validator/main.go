// Command validator keeps all policies in memory and answers Authorize.
package main

import (
	"errors"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/pkg/validator"
	"github.com/countersign/countersign/services/internal/daemon"
	"github.com/countersign/countersign/services/internal/gcbudget"
	"github.com/countersign/countersign/services/internal/settings"
	"github.com/countersign/countersign/services/validator/server"
)

func main() {
	gcbudget.Keep() // as long as the process lives
	var staleness *settings.Staleness
	var snapshot validator.SnapshotFile
	var interval *time.Duration
	var fleet fleetFlags
	var maxInFlight int
	os.Exit(daemon.Main(daemon.Service{
		Name:       "validator",
		Short:      "Keep all policies in memory and answer Authorize over gRPC",
		Listen:     ":7071",
		HTTPListen: ":7081",
		Flags: func(cmd *cobra.Command) {
			flags := cmd.Flags()
			staleness = settings.MaxStaleness(
				flags, "max-staleness",
				"age of data, by scope, beyond which calls get UNAVAILABLE, such as events=10m,gdpr=2s or all=1h (default no bound)",
			)
			flags.StringVar(
				&snapshot.Path, "snapshot-file", "",
				"`file` to start from while Redis is down; no other validator may use it (default none)",
			)
			flags.IntVar(&maxInFlight, "max-in-flight", server.DefaultMaxInFlight,
				"about how many `calls` may be in flight; further calls get RESOURCE_EXHAUSTED; 0 means no bound")
			fleet.define(flags)
			interval = settings.Duration(
				flags, "snapshot-interval", validator.DefaultSnapshotInterval, time.Second, 24*time.Hour,
				"time between two copies in --snapshot-file",
			)
		},
		New: func(c daemon.Config) (daemon.Runner, error) {
			if maxInFlight < 0 {
				return nil, errors.New("--max-in-flight: want 0 or more")
			}
			snapshot.Interval = *interval
			reports, err := fleet.config(c.GRPC.Listen, c.Files)
			if err != nil {
				return nil, err
			}
			return server.New(
				server.Config{Config: c, MaxStaleness: *staleness, Snapshot: snapshot, Fleet: reports, MaxInFlight: maxInFlight},
			)
		},
	}))
}
