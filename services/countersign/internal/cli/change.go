package cli

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/show"
	"github.com/countersign/countersign/services/internal/settings"
)

// change is what commands have in common that change something: a request id, by which a change whose outcome is not
// known can be asked for again without being made twice (AIP-155).
type change struct {
	id string
	// wait is how long to wait for the receipt; 0 is not at all.
	wait *time.Duration
	// repeatWith is what else has to be given to make the very same request again: times that were given as durations.
	repeatWith []string
}

func (c *change) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.id, "request-id", "",
		"`id` to find out by, within 24 h, whether the change was made: the same command with the same id does nothing twice (default random)")
	c.wait = settings.Duration(cmd.Flags(), "wait", 0, time.Millisecond, time.Minute,
		"wait for the receipt: until every validator has the change; with --wait=30s for so long at most")
	wait := cmd.Flags().Lookup("wait")
	wait.NoOptDefVal, wait.DefValue = "10s", ""
}

// waiting returns how long the authority is to wait, nil for not at all.
func (c *change) waiting() *durationpb.Duration {
	if *c.wait == 0 {
		return nil
	}
	return durationpb.New(*c.wait)
}

// receipted is a response to a change.
type receipted interface {
	GetReceipt() *countersignv1.Receipt
	GetDurability() *countersignv1.Durability
}

// warnOfFailover says when fewer replicas have a change than it was to wait for.
func warnOfFailover(cmd *cobra.Command, response receipted) {
	if d := response.GetDurability(); d.GetAcknowledged() < d.GetWanted() {
		fmt.Fprintf(cmd.ErrOrStderr(), "Warning: the change is made, but only %d of %d replicas are known to have it: a failover may lose it until it is healed.\n",
			d.GetAcknowledged(), d.GetWanted())
	}
}

// manage lets a command make a change, and shows the receipt after what call has shown.
func (c *change) manage(cmd *cobra.Command, g *globals, call func(context.Context, countersignv1.AuthorityServiceClient) (receipted, error)) error {
	return g.manageWithin(cmd, *g.timeout+*c.wait, func(ctx context.Context, authority countersignv1.AuthorityServiceClient) error {
		response, err := call(ctx, authority)
		if err != nil {
			return err
		}
		warnOfFailover(cmd, response)
		if *c.wait == 0 {
			return nil
		}
		receipt := response.GetReceipt()
		if g.output != inJSON {
			fmt.Fprintln(cmd.OutOrStdout())
			if err := show.Receipt(cmd.OutOrStdout(), receipt); err != nil {
				return err
			}
		}
		if receipt.GetComplete() {
			return nil
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "countersign: the change is made, but after %s it is not certain that it is everywhere: %s\n",
			*c.wait, show.Laggards(receipt))
		return errIncomplete
	})
}

// requestID returns the id that was given, or a random one.
func (c *change) requestID() string {
	if c.id == "" {
		c.id = rand.Text()
	}
	return c.id
}

// outcome adds to an error that leaves open whether the change was made how to find out.
func (c *change) outcome(err error) error {
	if err == nil || !unknownOutcome(err) {
		return err
	}
	with := append([]string{"--request-id " + c.id}, c.repeatWith...)
	return &adviceError{err, fmt.Sprintf("It is not known whether the change was made. Give the same command again with %s: it is then not made twice.",
		strings.Join(with, " "))}
}
