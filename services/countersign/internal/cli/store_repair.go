package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/services/store/tools"
)

func storeRepair(g *globals) *cobra.Command {
	var options tools.RepairOptions
	cmd := &cobra.Command{
		Use:   "repair --redis-url URL --keyring-file FILE [--from FILE]... [--floor-file FILE] [--yes]",
		Short: "Mend what does not add up in a store, from what is proven",
		Long: `Mend what store verify finds: half of a change, keys of another type, entries that no change can follow, damaged or missing
policies, fields that are no policies. What takes their place is made from what is signed: the head, the policies, the log,
the audit trail, and with --from also from backups and validators' snapshots. Partitions with nothing wrong are left alone;
the others begin a new epoch, to which running validators and authorities bring what they know beyond it.

Nothing is guessed. An app whose policy cannot be made again stays without a decision (POLICY_UNVERIFIED) until --from has
it, or a backup is restored. A partition of which it is not known which apps it had is not touched. Nor is one that has lost changes, by what
validators have reported or by --floor-file: --accept-loss gives these up. Audit rows behind a break in the trail are
given up: store backup --allow-damaged keeps them.

Without --yes it shows what it would do. On a terminal it then asks; without one it changes nothing.`,
		Example: `  countersign store repair --redis-url redis://localhost:6379/0 --keyring-file keyring.json
  countersign store repair --from store.backup --redis-url redis://localhost:6379/0 --keyring-file keyring.json --yes`,
	}
	flagged := newFloorFlags(cmd)
	// Bound to no variable, since they must not be said by mistake.
	yes := cmd.Flags().Bool("yes", false, "do it")
	cmd.Flags().StringArrayVar(&options.Files, "from", nil, "a backup or a validator's snapshot `file` to take what is missing from; may be repeated")
	cmd.Flags().Uint64Var(&options.AboveEpoch, "above-epoch", 0, "an `epoch` that some validator has seen and has not reported (metric countersign_partition_epoch)")
	cmd.Flags().BoolVar(&options.AcceptLoss, "accept-loss", false, "mend partitions, too, that have lost changes which validators or the floor file have seen")
	required(cmd, "redis-url", "keyring-file")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return flagged.use(cmd, g, func(ctx context.Context, operator *tools.Tools) error {
			plan, err := operator.PlanRepair(ctx, options)
			if err != nil {
				return flagged.about(err)
			}
			if *yes, err = planned(cmd, g, *yes, changes(plan), func(w io.Writer) error { return showRepair(w, plan, false) }, "The store at %s is to be mended so.", flagged.where()); err != nil {
				return err
			}
			if *yes {
				if err := operator.Repair(ctx, plan); err != nil {
					return flagged.about(err)
				}
			}
			if err := g.answerValue(cmd, plan, func(w io.Writer) error { return showRepair(w, plan, *yes) }); err != nil {
				return err
			}
			return flagged.about(unrepaired(plan, *yes))
		})
	}
	return cmd
}

// unrepaired returns what is not as it should be after a repair, or a plan of one.
func unrepaired(plan *tools.RepairPlan, done bool) error {
	refused, undecided, left := 0, 0, len(plan.Left)
	for _, m := range plan.Partitions {
		undecided += len(m.Undecided)
		switch {
		case m.Refused != "":
			refused++
		case !m.Changes:
			left += len(m.Findings)
		}
	}
	switch {
	case changes(plan) && !done:
		return errors.New("nothing was changed; to go ahead, give --yes")
	case refused > 0:
		return fmt.Errorf("%s cannot be mended", count(refused, "partition"))
	case undecided > 0:
		return fmt.Errorf("%s without a policy that verifies", count(undecided, "app"))
	case left > 0:
		return fmt.Errorf("%s wrong still", count(left, "thing"))
	}
	return nil
}

// changes tells whether a repair changes anything.
func changes(plan *tools.RepairPlan) bool {
	return plan.Meta || len(plan.Removed) > 0 || slices.ContainsFunc(plan.Partitions, func(m *tools.PartitionRepair) bool { return m.Changes })
}

func showRepair(w io.Writer, plan *tools.RepairPlan, done bool) error {
	if len(plan.Partitions) == 0 && len(plan.Removed) == 0 && len(plan.Left) == 0 && !plan.Meta {
		_, err := fmt.Fprintf(w, "Store %s: nothing is wrong.\n", plan.StoreID)
		return err
	}
	is := "would be"
	if done {
		is = "is"
	}
	if done && changes(plan) {
		words := ""
		if plan.Epochs[1] > 0 {
			words = ": epoch " + fromTo(plan.Epochs)
		}
		fmt.Fprintf(w, "Store %s is mended%s.\n", plan.StoreID, words)
	}
	if plan.Meta {
		fmt.Fprintf(w, "What says which store it is (cs:meta) %s written again.\n", is)
	}
	for _, key := range plan.Removed {
		fmt.Fprintf(w, "%s; it %s removed.\n", key, is)
	}
	if len(plan.Left) > 0 {
		fmt.Fprintln(w, "What store repair does not change:")
		if err := list(w, plan.Left); err != nil {
			return err
		}
	}
	if len(plan.Ignored) > 0 {
		fmt.Fprintln(w, "What was reported and cannot be true:")
		if err := list(w, plan.Ignored); err != nil {
			return err
		}
	}
	for _, m := range plan.Partitions {
		fmt.Fprintf(w, "Partition %d:\n", m.Partition)
		if err := list(w, m.Findings); err != nil {
			return err
		}
		if m.Refused != "" {
			fmt.Fprintf(w, "  It %s left as it is: %s.\n", is, m.Refused)
			continue
		}
		if m.Loss != nil {
			fmt.Fprintf(w, "  What %s lost: %s.\n", is, m.Loss)
		}
		if m.Changes {
			fmt.Fprintf(w, "  It %s written anew, at revision %d; the head was at %d.\n", is, m.To, m.From)
		}
		for _, part := range []struct {
			what string
			all  []string
		}{{"made again", m.Apps}, {"removed, being no policy", printable(m.Fields)}, {"left undecided, which only a backup or a snapshot file can change", m.Undecided}} {
			if len(part.all) > 0 {
				fmt.Fprintf(w, "  %s: %s.\n", part.what, strings.Join(part.all, ", "))
			}
		}
	}
	return nil
}

// printable returns names that anybody may have written, quoted and cut.
func printable(names []string) []string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = fmt.Sprintf("%+q", name[:min(len(name), 100)])
	}
	return quoted
}
