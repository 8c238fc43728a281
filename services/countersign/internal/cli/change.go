package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/show"
	"github.com/countersign/countersign/services/internal/settings"
)

// change holds the flags that all changing commands share. The request id lets a caller repeat a change with
// an unknown outcome without making it twice (AIP-155).
type change struct {
	id string
	// wait is how long to wait for the receipt; 0 means not at all.
	wait *time.Duration
}

func (c *change) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.id, "request-id", "",
		"`id` of the change: within 24 h, the same command with the same id is carried out only once (default random)")
	c.wait = settings.Duration(cmd.Flags(), "wait", 0, time.Millisecond, time.Minute,
		"wait until every validator has the change, and show the receipt; the limit is 10s, or N with --wait=N")
	wait := cmd.Flags().Lookup("wait")
	wait.NoOptDefVal, wait.DefValue = "10s", ""
}

// receipted is a response to a change.
type receipted interface {
	GetReceipt() *countersignv1.Receipt
	GetDurability() *countersignv1.Durability
}

// warnOfFailover prints a warning when fewer Redis replicas have confirmed a change than the authority waits
// for.
func warnOfFailover(cmd *cobra.Command, d *countersignv1.Durability) {
	if d.GetAcknowledged() < d.GetWanted() {
		fmt.Fprintf(cmd.ErrOrStderr(),
			"Warning: the change is made, but only %d of %d Redis replicas have confirmed it: "+
				"a failover may lose it until it is healed.\n",
			d.GetAcknowledged(), d.GetWanted())
	}
}

// manage makes a change with call, and then shows the receipt.
//
// It makes the change without waiting, and call writes the result at once: an interrupted wait must not lose
// a secret that is shown only once. Then manage sends the same request again with the wait. The authority
// recognises it by its id and returns the receipt.
func (c *change) manage(cmd *cobra.Command, g *globals,
	call func(context.Context, countersignv1.AuthorityServiceClient) (receipted, error),
) error {
	return g.callAuthority(cmd, *g.timeout+*c.wait, func(ctx context.Context, connection grpc.ClientConnInterface) error {
		calls := &remembered{ClientConnInterface: connection}
		g.receiptFollows = *c.wait != 0
		response, err := c.once(ctx, *g.timeout, calls, call)
		if err != nil {
			return errors.Join(err, g.endAnswer(cmd, nil))
		}
		warnOfFailover(cmd, response.GetDurability())
		if *c.wait == 0 {
			return nil
		}
		began := time.Now()
		receipt, err := calls.receipt(ctx, *c.wait)
		if err := g.endAnswer(cmd, receipt); err != nil {
			return fmt.Errorf("the change is made, but its receipt could not be shown: %w", err)
		}
		switch {
		case err != nil && status.Code(err) == codes.Canceled:
			return incomplete(cmd, "the change is made; the wait was interrupted, so some validators may not have it yet")
		case err != nil:
			return incomplete(cmd, "the change is made, but some validators may not have it: "+explain(err, cmd))
		case !receipt.GetComplete():
			after := fmt.Sprintf(" after %s", *c.wait)
			if show.OnlyLost(receipt) && time.Since(began) < *c.wait {
				after = "" // the authority does not wait for LOST validators
			}
			return incomplete(cmd, fmt.Sprintf("the change is made, but%s some validators may not have it: %s", after,
				show.Laggards(receipt)))
		}
		return nil
	})
}

// once makes the change, within the time limit of a call that does not wait.
func (c *change) once(ctx context.Context, timeout time.Duration, calls grpc.ClientConnInterface,
	call func(context.Context, countersignv1.AuthorityServiceClient) (receipted, error),
) (receipted, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return call(ctx, countersignv1.NewAuthorityServiceClient(calls))
}

// incomplete ends a command whose change is made and whose receipt is not complete.
func incomplete(cmd *cobra.Command, words string) error {
	fmt.Fprintln(cmd.ErrOrStderr(), "countersign:", words)
	return errIncomplete
}

// requestID returns the given id, or a random one.
func (c *change) requestID() string {
	if c.id == "" {
		c.id = rand.Text()
	}
	return c.id
}

// outcome adds advice to an error that leaves open whether the change was made.
func (c *change) outcome(err error) error {
	if err == nil || !unknownOutcome(err) {
		return err
	}
	return &adviceError{err, fmt.Sprintf("The change may have been made. "+
		"Repeat the same command with --request-id %s: the change is not made twice.", c.id)}
}
