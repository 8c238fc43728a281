package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/services/store/tools"
)

const aboveEpochHelp = "highest `epoch` that a validator has seen and not reported (metric countersign_partition_epoch)"

func storeRestore(g *globals) *cobra.Command {
	var options tools.RestoreOptions
	var sure confirmation
	cmd := &cobra.Command{
		Use:   "restore FILE --redis-url URL --keyring-file FILE",
		Short: "Replace a store by a backup",
		Long: `Replace a store by a backup, as a new epoch above everything that is known.

Keep authorities and validators running. Validators keep every revocation that they have seen, and
report the changes that the backup lacks. An authority brings these back within seconds. Repeat the
command if it was interrupted.

With a validator's snapshot instead of a backup (--without-names), everything that decides is
restored. Names, notes, times and the audit trail are lost.`,
		Example: `  countersign store restore store.backup --redis-url redis://redis --keyring-file ring.json
  countersign store restore snap --without-names --redis-url redis://redis --keyring-file ring.json`,
		Args: oneFile,
	}
	store := newFloorFlags(cmd)
	// These flags have no environment variables, so that nobody sets them by mistake.
	flags := cmd.Flags()
	flags.BoolVar(&options.Replace, "replace", false, "replace an existing store, which is lost then")
	flags.BoolVar(&options.WithoutNames, "without-names", false,
		"restore a validator's snapshot; the ids of tokens replace their names")
	flags.BoolVar(&options.AllowDamaged, "allow-damaged", false, "leave out records that do not verify")
	flags.Uint64Var(&options.AboveEpoch, "above-epoch", 0, aboveEpochHelp)
	sure.flag(cmd)
	required(cmd, "redis-url", "keyring-file")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if options.Replace {
			if err := sure.ask(cmd, "This replaces the store at %s by %s.", store.where(), args[0]); err != nil {
				return err
			}
		}
		return store.use(cmd, g, func(ctx context.Context, operator *tools.Tools) error {
			done, err := operator.Restore(ctx, args[0], options)
			switch {
			case errors.Is(err, tools.ErrDamaged):
				return fmt.Errorf("%s: %w", args[0], damage(done.Findings, "nothing was changed; --allow-damaged leaves these out"))
			case errors.Is(err, tools.ErrNoNames):
				return fmt.Errorf("%s: %w. To restore it anyway, give --without-names", args[0], err)
			case errors.Is(err, tools.ErrNotEmpty):
				return store.about(fmt.Errorf("%w. To replace it, give --replace", err))
			case err != nil:
				return store.about(err)
			}
			return g.answerValue(cmd, done, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "Restored store %s from a %s of %s: %s, epoch %s.\n",
					done.StoreID, done.Kind, done.Created.Local().Format(time.RFC3339), totals(done.Totals), fromTo(done.Epochs))
				if err == nil && len(done.Findings) > 0 {
					_, err = fmt.Fprintln(w, "Left out, because they do not verify:")
				}
				err = errors.Join(err, list(w, done.Findings))
				if err == nil && done.FleetBegun {
					_, err = fmt.Fprintln(w, "The list of validators was missing, so a new one was begun. "+
						"Check that `countersign fleet list` shows every validator that runs.")
				}
				return err
			})
		})
	}
	return cmd
}

func storeAdopt(g *globals) *cobra.Command {
	var aboveEpoch uint64
	cmd := &cobra.Command{
		Use:   "adopt --redis-url URL --keyring-file FILE [--yes]",
		Short: "Accept a store as it is, and give up the changes that it has lost",
		Long: `Accept a store as it is, and give up the changes that it has lost. Use it when validators do not
follow the store because it contradicts what they have seen, and nobody can supply the lost changes.

Each partition begins a new epoch above everything that is known, and validators follow it.
Revocations that a running validator has seen stay in force there.

Without --yes the command shows what would be lost, as far as validators have reported it. On a
terminal it then asks; without a terminal it changes nothing.`,
		Example: "  countersign store adopt --redis-url redis://redis --keyring-file ring.json --yes",
	}
	store := newFloorFlags(cmd)
	// These flags have no environment variables, so that nobody sets them by mistake.
	yes := cmd.Flags().Bool("yes", false, "carry it out without asking")
	cmd.Flags().Uint64Var(&aboveEpoch, "above-epoch", 0, aboveEpochHelp)
	required(cmd, "redis-url", "keyring-file")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return store.use(cmd, g, func(ctx context.Context, operator *tools.Tools) error {
			plan, err := operator.PlanAdoption(ctx, aboveEpoch)
			if err != nil {
				return store.about(err)
			}
			*yes, err = planned(cmd, g, *yes, true, func(w io.Writer) error { return showAdoption(w, plan, false) },
				"This accepts the store at %s as it is.", store.where())
			if err != nil {
				return err
			}
			if *yes {
				if err := operator.Adopt(ctx, plan); err != nil {
					return store.about(err)
				}
			}
			if err := g.answerValue(cmd, plan, func(w io.Writer) error { return showAdoption(w, plan, *yes) }); err != nil {
				return err
			}
			if !*yes {
				return store.about(errors.New("nothing was changed; to go ahead, give --yes"))
			}
			return nil
		})
	}
	return cmd
}

func showAdoption(w io.Writer, a *tools.Adoption, done bool) error {
	is := "would be"
	if done {
		is = "is"
		fmt.Fprintf(w, "Store %s is accepted as it is: epoch %s.\n", a.StoreID, fromTo(a.Epochs))
	}
	if len(a.Missing) > 0 {
		fmt.Fprintf(w, "%s without a head: all data there %s lost.\n", count(len(a.Missing), "partition"), is)
	}
	if len(a.Ignored) > 0 {
		fmt.Fprintln(w, "Ignored reports, which cannot be true:")
		if err := list(w, a.Ignored); err != nil {
			return err
		}
	}
	if a.Validators == 0 {
		_, err := fmt.Fprintln(w, "No validator has reported, so it is unknown what else was lost.")
		return err
	}
	if len(a.Losses) == 0 {
		_, err := fmt.Fprintf(w, "Of the changes that %s reported, nothing else %s lost.\n", count(a.Validators, "validator"), is)
		return err
	}
	fmt.Fprintf(w, "According to the reports of %s, this %s lost:\n", count(a.Validators, "validator"), is)
	return list(w, a.Losses)
}
