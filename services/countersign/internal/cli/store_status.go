package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/services/countersign/internal/show"
	"github.com/countersign/countersign/services/countersign/internal/words"
	"github.com/countersign/countersign/services/store/tools"
)

func storeStatus(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status --redis-url URL --keyring-file FILE",
		Short: "Show a store: its heads, its Redis, and what validators have reported",
		Long: `Show a store: its heads, its Redis, and what validators have reported. The command verifies the
heads; 'store verify' verifies everything. Exit code 1: heads are missing or do not verify. Warnings
do not change the exit code.`,
		Example: "  countersign store status --redis-url redis://redis --keyring-file ring.json",
	}
	store := newFloorFlags(cmd)
	required(cmd, "redis-url", "keyring-file")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return store.use(cmd, g, func(ctx context.Context, operator *tools.Tools) error {
			status, err := operator.Status(ctx)
			if err != nil {
				return store.about(err)
			}
			if err := g.answerValue(cmd, status, func(w io.Writer) error { return showStatus(w, &status) }); err != nil {
				return err
			}
			if len(status.Heads) > 0 {
				return store.about(fmt.Errorf("%s missing or not verified", count(len(status.Heads), "head")))
			}
			return nil
		})
	}
	return cmd
}

func showStatus(w io.Writer, s *tools.Status) error {
	rows := []show.Row{
		{Name: "Store", Value: s.StoreID},
		{Name: "Made", Value: words.Time(timestamppb.New(s.CreateTime), time.Now())},
		{Name: "Partitions", Value: fmt.Sprint(s.Partitions)},
		{Name: "Epochs", Value: fromTo(s.Epochs)},
		{Name: "Revisions", Value: fmt.Sprint(s.Revisions)},
		{Name: "Apps", Value: fmt.Sprint(s.Apps)},
	}
	for _, server := range s.Servers {
		memory := fmt.Sprintf("%d MiB used, no limit", server.UsedMemory>>20)
		if server.MaxMemory > 0 {
			memory = fmt.Sprintf("%d of %d MiB used", server.UsedMemory>>20, server.MaxMemory>>20)
		}
		rows = append(rows, show.Row{
			Name:  "Redis",
			Value: fmt.Sprintf("%s, %s, %s, %s", server.Version, server.Role, count(server.Replicas, "replica"), memory),
		})
	}
	if err := show.Details(w, rows...); err != nil {
		return err
	}
	list := show.NewList(w, "VALIDATOR", "REPORTED", "BEHIND", "AHEAD", "NOT IN THE STORE")
	var cells [][]string
	for _, v := range s.Validators {
		cells = append(cells, []string{
			words.Printable(v.ID), words.Relative(timestamppb.New(v.ReportTime), time.Now()), count(v.Behind, "partition"),
			count(v.Ahead, "partition"), count(v.Orphans, "change"),
		})
	}
	if err := list.Page(cells); err != nil {
		return err
	}
	for _, warning := range s.Warnings {
		if _, err := fmt.Fprintln(w, "Warning:", words.Printable(warning)); err != nil {
			return err
		}
	}
	return nil
}

func fromTo(epochs [2]uint64) string {
	if epochs[0] == epochs[1] {
		return fmt.Sprint(epochs[0])
	}
	return fmt.Sprintf("%d to %d", epochs[0], epochs[1])
}
