package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/show"
	"github.com/countersign/countersign/services/countersign/internal/words"
	"github.com/countersign/countersign/services/internal/cmdline"
)

func fleetCommand(g *globals) *cobra.Command {
	group := &cobra.Command{Use: "fleet", Short: "List the validators that report, and remove one that will not come back"}
	group.AddCommand(fleetList(g), fleetForget(g))
	return group
}

func fleetList(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the validators: their states, the age of their data, and their missing changes",
		Long: `List the validators: their states, the age of their data, and how many changes they are behind.

  REPORTING  has reported within 10 s
  LOST       has not, and may answer from old data; receipts name it until it returns or is removed
  FENCED     has not, but its staleness bounds keep it from answering from old data

When two validators have the same id, the list shows only the one that started later. The other one
answers requests too, and no receipt waits for it. Give each validator its own --validator-id.

CLOCK shows how far a validator's clock is ahead of the authority's, or behind, if that is more than
1 s. Such a validator ends tokens, overlaps of rotations and trials early or late by that much: set
its clock (NTP).`,
		Example: "  countersign fleet list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.manage(cmd, func(ctx context.Context, authority countersignv1.AuthorityServiceClient) error {
				response, err := authority.ListValidators(ctx, &countersignv1.ListValidatorsRequest{})
				if err != nil {
					return err
				}
				list := show.NewList(cmd.OutOrStdout(), show.ValidatorHeading...)
				err = g.answer(cmd, response, func(io.Writer) error {
					var rows [][]string
					for _, v := range response.GetValidators() {
						rows = append(rows, show.ValidatorCells(v))
					}
					return list.Page(rows)
				})
				if err != nil || g.output == cmdline.JSON {
					return err
				}
				return sayEmpty(cmd, list, "No validator reports.")
			})
		},
	}
}

func fleetForget(g *globals) *cobra.Command {
	var sure confirmation
	cmd := &cobra.Command{
		Use:   "forget VALIDATOR",
		Short: "Remove a validator that will not come back, so that receipts stop naming it",
		Long: `Remove a validator that will not come back, so that receipts stop naming it.

First make sure that it does not run: from old data it may accept tokens that were revoked since.`,
		Example: "  countersign fleet forget validator-7",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("want the name of one validator, as in 'countersign fleet list'")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			err := sure.ask(cmd, "This removes validator %s at %s: "+
				"if it still runs, it may accept revoked tokens, and no receipt names it.",
				words.Printable(args[0]), g.authority)
			if err != nil {
				return err
			}
			return g.manage(cmd, func(ctx context.Context, authority countersignv1.AuthorityServiceClient) error {
				response, err := authority.ForgetValidator(ctx, &countersignv1.ForgetValidatorRequest{ValidatorId: args[0]})
				if err != nil {
					return err
				}
				return g.answer(cmd, response, func(w io.Writer) error {
					_, err := fmt.Fprintln(w, "The validator is removed.")
					return err
				})
			})
		},
	}
	sure.flag(cmd)
	return cmd
}
