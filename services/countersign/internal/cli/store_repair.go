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
		Use:   "repair --redis-url URL --keyring-file FILE [--from FILE]... [--yes]",
		Short: "Repair a store from its signed records",
		Long: `Repair what 'store verify' finds: half of a change, keys of a wrong type, entries that no change can
follow, damaged or missing policies, and fields that are no policies.

The repair uses only signed records: head, policies, log and audit trail, and with --from also
backups and validators' snapshots. It does not change partitions without findings. Each other
partition begins a new epoch, to which running validators and authorities add what they hold beyond
it.

The repair guesses nothing:
- An app whose policy cannot be rebuilt stays undecided (POLICY_UNVERIFIED) until --from has the
  policy, or a backup is restored.
- A partition is not changed when it is unknown which apps it had.
- A partition is not changed when it has lost changes that validators have reported or --floor-file
  shows; --accept-loss gives these changes up.
- Audit rows behind a break in the trail are given up; 'store backup --allow-damaged' keeps them.

Without --yes the command shows what it would do. On a terminal it then asks; without a terminal it
changes nothing.`,
		Example: `  countersign store repair --redis-url redis://redis --keyring-file ring.json
  countersign store repair --from backup --redis-url redis://redis --keyring-file ring.json --yes`,
	}
	flagged := newFloorFlags(cmd)
	// These flags have no environment variables, so that nobody sets them by mistake.
	yes := cmd.Flags().Bool("yes", false, "carry it out without asking")
	cmd.Flags().StringArrayVar(&options.Files, "from", nil,
		"`file` with missing records: a backup or a validator's snapshot; may be repeated")
	cmd.Flags().Uint64Var(&options.AboveEpoch, "above-epoch", 0, aboveEpochHelp)
	cmd.Flags().BoolVar(&options.AcceptLoss, "accept-loss", false,
		"also repair partitions that have lost changes which validators or the floor file have seen")
	required(cmd, "redis-url", "keyring-file")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return flagged.use(cmd, g, func(ctx context.Context, operator *tools.Tools) error {
			plan, err := operator.PlanRepair(ctx, options)
			if err != nil {
				return flagged.about(err)
			}
			*yes, err = planned(cmd, g, *yes, changes(plan), func(w io.Writer) error { return showRepair(w, plan, false) },
				"This repairs the store at %s as shown.", flagged.where())
			if err != nil {
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

// unrepaired returns an error for everything that a repair, or the plan of one, leaves wrong.
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
		return fmt.Errorf("%s cannot be repaired", count(refused, "partition"))
	case undecided > 0:
		return fmt.Errorf("%s without a policy that verifies", count(undecided, "app"))
	case left > 0:
		return fmt.Errorf("%s still wrong", count(left, "thing"))
	}
	return nil
}

// changes reports whether a repair changes anything.
func changes(plan *tools.RepairPlan) bool {
	return plan.Meta || len(plan.Removed) > 0 ||
		slices.ContainsFunc(plan.Partitions, func(m *tools.PartitionRepair) bool { return m.Changes })
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
		fmt.Fprintf(w, "Store %s is repaired%s.\n", plan.StoreID, words)
	}
	if plan.Meta {
		fmt.Fprintf(w, "The store's identity (cs:meta) %s written again.\n", is)
	}
	for _, key := range plan.Removed {
		fmt.Fprintf(w, "%s; it %s removed.\n", key, is)
	}
	if len(plan.Left) > 0 {
		fmt.Fprintln(w, "Not changed by store repair:")
		if err := list(w, plan.Left); err != nil {
			return err
		}
	}
	if len(plan.Ignored) > 0 {
		fmt.Fprintln(w, "Ignored reports, which cannot be true:")
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
			fmt.Fprintf(w, "  This %s lost: %s.\n", is, m.Loss)
		}
		if m.Changes {
			fmt.Fprintf(w, "  It %s rewritten, at revision %d; the head was at %d.\n", is, m.To, m.From)
		}
		for _, part := range []struct {
			what string
			all  []string
		}{
			{"rebuilt", m.Apps},
			{"removed, because they are no policies", printable(m.Fields)},
			{"left undecided, which only a backup or a snapshot file can change", m.Undecided},
		} {
			if len(part.all) > 0 {
				fmt.Fprintf(w, "  %s: %s.\n", part.what, strings.Join(part.all, ", "))
			}
		}
	}
	return nil
}

// printable quotes and shortens names that anybody may have written.
func printable(names []string) []string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = fmt.Sprintf("%+q", name[:min(len(name), 100)])
	}
	return quoted
}
