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
)

func fleetCommand(g *globals) *cobra.Command {
	group := &cobra.Command{Use: "fleet", Short: "Show the validators that report, and forget those that will not come back"}
	group.AddCommand(fleetList(g), fleetForget(g))
	return group
}

func fleetList(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the validators: who reports, how old their data is, and how many changes they are behind",
		Long: `List the validators: who reports, how old their data is, and how many changes they are behind.

REPORTING has reported within 10 s. LOST has not, and may answer from old data: it stays in every receipt until it is back
or forgotten. FENCED has not either, but its staleness bounds keep it from that.

Where another one has the same id, only the one that was started later is listed: the other one answers requests, and no
receipt waits for it. Give each validator an id of its own (--validator-id).

CLOCK says how far a validator's clock is ahead of the authority's, or behind, when that is more than 1 s. Such a validator
ends a token that expires, the overlap of a rotation and a trial that much early or late: set its clock (NTP).`,
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
				if err != nil || g.output == inJSON {
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
		Short: "Take a validator that will not come back out of the fleet, so that receipts do not name it any more",
		Long: `Take a validator that will not come back out of the fleet, so that receipts do not name it any more.

Make sure that it does not run: one that goes on answering from old data may accept what was revoked since.`,
		Example: "  countersign fleet forget validator-7",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("want the name of one validator, as in 'countersign fleet list'")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := sure.ask(cmd, "Validator %s is to be forgotten at %s: if it runs, it may accept what was revoked, and no receipt names it.", words.Printable(args[0]), g.authority); err != nil {
				return err
			}
			return g.manage(cmd, func(ctx context.Context, authority countersignv1.AuthorityServiceClient) error {
				response, err := authority.ForgetValidator(ctx, &countersignv1.ForgetValidatorRequest{ValidatorId: args[0]})
				if err != nil {
					return err
				}
				return g.answer(cmd, response, func(w io.Writer) error {
					_, err := fmt.Fprintln(w, "It is forgotten.")
					return err
				})
			})
		},
	}
	sure.flag(cmd)
	return cmd
}
