package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/services/countersign/internal/provision"
	"github.com/countersign/countersign/services/internal/cmdline"
	"github.com/countersign/countersign/services/internal/settings"
)

func storeCommand(g *globals) *cobra.Command {
	group := &cobra.Command{Use: "store", Short: "Initialise, check, back up, restore and repair the store"}
	group.AddCommand(storeInit(g), storeStatus(g), storeBackup(g), storeVerify(g), storeRestore(g), storeAdopt(g),
		storeRepair(g))
	return group
}

func storeInit(g *globals) *cobra.Command {
	var where provision.Store
	var sure confirmation
	cmd := &cobra.Command{
		Use:   "init --redis-url URL --keyring-file FILE",
		Short: "Create the key ring if it is missing, and initialise the store",
		Long: `Create the key ring if it is missing, and initialise the store. The command may be repeated: it
changes neither an existing key ring nor an existing store.

An authority and its validators need the same key ring file. A person who has it and can write to
Redis can forge every policy.`,
		Example: "  countersign store init --redis-url redis://redis --keyring-file ring.json",
	}
	flags := cmd.Flags()
	url := settings.RedisURL(flags, "redis-url", "", "Redis of the store: "+redisURLHelp+" (required)")
	flags.StringVar(&where.KeyringFile, "keyring-file", "", "`file` with the keys that sign the store's records (required)")
	flags.IntVar(&where.Partitions, "partitions", 0,
		fmt.Sprintf("`number` of partitions of a new store, 1 to %d (default %d)", record.MaxPartitions, record.DefaultPartitions))
	settings.BindEnv(cmd)
	// This flag has no environment variable, so that nobody sets it by mistake.
	flags.BoolVar(&where.StartOver, "new-store", false,
		"create an empty store although the key ring exists and its store is lost")
	sure.flag(cmd)
	required(cmd, "redis-url", "keyring-file")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if where.Partitions < 0 || where.Partitions > record.MaxPartitions || flags.Changed("partitions") &&
			where.Partitions == 0 {
			return cmdline.Misuse("--partitions: want 1 to %d", record.MaxPartitions)
		}
		where.RedisURL = *url
		if where.StartOver {
			err := sure.ask(cmd, "If there is no store at %s, this creates an empty one: every token is lost.",
				settings.RedactURL(where.RedisURL))
			if err != nil {
				return err
			}
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), *g.timeout)
		defer cancel()
		made, err := where.Init(ctx)
		if err != nil {
			return err
		}
		return g.answerValue(cmd, made, func(w io.Writer) error {
			state := "Already initialised"
			if made.Created {
				state = "Initialised"
			}
			ring := ""
			if made.NewKeyring {
				ring = fmt.Sprintf("The key ring %s is new. Keep a copy of it elsewhere: without it the store is lost.\n",
					where.KeyringFile)
			}
			_, err := fmt.Fprintf(w, "%s: store %s with %s at %s.\n%s",
				state, made.StoreID, count(made.Partitions, "partition"), settings.RedactURL(where.RedisURL), ring)
			return err
		})
	}
	return cmd
}
