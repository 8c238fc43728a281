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

func storeRestore(g *globals) *cobra.Command {
	var options tools.RestoreOptions
	var sure confirmation
	cmd := &cobra.Command{
		Use:   "restore FILE --redis-url URL --keyring-file FILE",
		Short: "Put a backup in the place of a store",
		Long: `Put a backup in the place of a store, as a new epoch above all that is known. Validators that run cross to it within
seconds, keep every revocation that they have seen, and report what they know beyond the backup; authorities that run bring
that back. So the closer the backup, the less depends on them.

It may be repeated when it was cut off, and authorities and validators may run. With a validator's snapshot instead of a
backup (--without-names) what decides is restored, and what people see is lost.`,
		Example: `  countersign store restore store.backup --redis-url redis://localhost:6379/0 --keyring-file keyring.json
  countersign store restore policies.snapshot --without-names --redis-url redis://localhost:6379/0 --keyring-file keyring.json`,
		Args: oneFile,
	}
	store := newFloorFlags(cmd)
	// Bound to no variable, since they must not be said by mistake.
	flags := cmd.Flags()
	flags.BoolVar(&options.Replace, "replace", false, "also when there is a store, which is gone then")
	flags.BoolVar(&options.WithoutNames, "without-names", false, "take a validator's snapshot: the ids of tokens stand in for their names")
	flags.BoolVar(&options.AllowDamaged, "allow-damaged", false, "leave out what does not verify")
	flags.Uint64Var(&options.AboveEpoch, "above-epoch", 0, "an `epoch` that some validator has seen and that the store does not know (metric countersign_partition_epoch)")
	sure.flag(cmd)
	required(cmd, "redis-url", "keyring-file")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if options.Replace {
			if err := sure.ask(cmd, "What is in the store at %s is to be replaced by %s.", store.where(), args[0]); err != nil {
				return err
			}
		}
		return store.use(cmd, g, func(ctx context.Context, operator *tools.Tools) error {
			done, err := operator.Restore(ctx, args[0], options)
			switch {
			case errors.Is(err, tools.ErrDamaged):
				return fmt.Errorf("%s: %w", args[0], damage(done.Findings, "nothing was changed; --allow-damaged leaves that out"))
			case errors.Is(err, tools.ErrNoNames):
				return fmt.Errorf("%s: %w. To take it all the same, give --without-names", args[0], err)
			case errors.Is(err, tools.ErrNotEmpty):
				return store.about(fmt.Errorf("%w. To replace it, give --replace", err))
			case err != nil:
				return store.about(err)
			}
			return g.answerValue(cmd, done, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "Restored store %s from a %s of %s: %s, epoch %s.\n",
					done.StoreID, done.Kind, done.Created.Local().Format(time.RFC3339), totals(done.Totals), fromTo(done.Epochs))
				if err == nil && len(done.Findings) > 0 {
					_, err = fmt.Fprintln(w, "Left out, since they do not verify:")
				}
				err = errors.Join(err, list(w, done.Findings))
				if err == nil && done.FleetBegun {
					_, err = fmt.Fprintln(w, "The list of validators was missing and is begun anew: compare `countersign fleet list` with the validators that run.")
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
		Short: "Take a store as it is, and give up what it has lost",
		Long: `Take a store as it is, and give up what it has lost: when validators refuse it since it denies what they have seen, and
nobody can supply that any more. Each partition begins a new epoch above all that is known, which validators follow.
Revocations that a running validator has seen stay in force there.

Without --yes it shows what would be lost, as far as validators have reported. On a terminal it then asks; without one it
changes nothing.`,
		Example: "  countersign store adopt --redis-url redis://localhost:6379/0 --keyring-file keyring.json --yes",
	}
	store := newFloorFlags(cmd)
	// Bound to no variable, since they must not be said by mistake.
	yes := cmd.Flags().Bool("yes", false, "do it")
	cmd.Flags().Uint64Var(&aboveEpoch, "above-epoch", 0, "an `epoch` that some validator has seen and has not reported (metric countersign_partition_epoch)")
	required(cmd, "redis-url", "keyring-file")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return store.use(cmd, g, func(ctx context.Context, operator *tools.Tools) error {
			plan, err := operator.PlanAdoption(ctx, aboveEpoch)
			if err != nil {
				return store.about(err)
			}
			if *yes, err = planned(cmd, g, *yes, true, func(w io.Writer) error { return showAdoption(w, plan, false) }, "The store at %s is to be taken as it is.", store.where()); err != nil {
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
		fmt.Fprintf(w, "Store %s is taken as it is: epoch %s.\n", a.StoreID, fromTo(a.Epochs))
	}
	if len(a.Missing) > 0 {
		fmt.Fprintf(w, "%s without a head: all that was there %s lost.\n", count(len(a.Missing), "partition"), is)
	}
	if len(a.Ignored) > 0 {
		fmt.Fprintln(w, "What was reported and cannot be true:")
		if err := list(w, a.Ignored); err != nil {
			return err
		}
	}
	if a.Validators == 0 {
		_, err := fmt.Fprintln(w, "No validator has reported, so what else was lost is not known.")
		return err
	}
	if len(a.Losses) == 0 {
		_, err := fmt.Fprintf(w, "Nothing else %s lost that one of %s has reported.\n", is, count(a.Validators, "validator"))
		return err
	}
	fmt.Fprintf(w, "By the reports of %s, this %s lost:\n", count(a.Validators, "validator"), is)
	return list(w, a.Losses)
}
