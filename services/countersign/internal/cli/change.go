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

// change is what commands have in common that change something: a request id, by which a change whose
// outcome is not known can be asked for again without being made twice (AIP-155).
type change struct {
	id string
	// wait is how long to wait for the receipt; 0 is not at all.
	wait *time.Duration
}

func (c *change) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.id, "request-id", "",
		"`id` to find out by, within 24 h, whether the change was made: the same command with the same id does nothing twice (default random)")
	c.wait = settings.Duration(cmd.Flags(), "wait", 0, time.Millisecond, time.Minute,
		"wait for the receipt: until every validator has the change; with --wait=30s for so long at most")
	wait := cmd.Flags().Lookup("wait")
	wait.NoOptDefVal, wait.DefValue = "10s", ""
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
//
// The change is made without waiting, and what call shows of it is written at once: a secret that is shown
// once must not be lost with a process that is interrupted while it waits. The same request is then asked
// again, with the wait: by its id the authority knows it as made, and answers the receipt.
func (c *change) manage(cmd *cobra.Command, g *globals, call func(context.Context, countersignv1.AuthorityServiceClient) (receipted, error)) error {
	return g.callAuthority(cmd, *g.timeout+*c.wait, func(ctx context.Context, connection grpc.ClientConnInterface) error {
		calls := &remembered{ClientConnInterface: connection}
		g.receiptFollows = *c.wait != 0
		response, err := c.once(ctx, *g.timeout, calls, call)
		if err != nil {
			return errors.Join(err, g.endAnswer(cmd, nil))
		}
		warnOfFailover(cmd, response)
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
			return incomplete(cmd, "the change is made; it was not waited for any longer, so it is not certain that it is everywhere")
		case err != nil:
			return incomplete(cmd, "the change is made, but it is not certain that it is everywhere: "+explain(err, cmd))
		case !receipt.GetComplete():
			after := fmt.Sprintf(" after %s", *c.wait)
			if show.OnlyLost(receipt) && time.Since(began) < *c.wait {
				after = "" // nobody waits for those
			}
			return incomplete(cmd, fmt.Sprintf("the change is made, but%s it is not certain that it is everywhere: %s", after, show.Laggards(receipt)))
		}
		return nil
	})
}

// once makes the change, within the time that a call may take without waiting.
func (c *change) once(ctx context.Context, timeout time.Duration, calls grpc.ClientConnInterface, call func(context.Context, countersignv1.AuthorityServiceClient) (receipted, error)) (receipted, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return call(ctx, countersignv1.NewAuthorityServiceClient(calls))
}

// incomplete ends a command whose change is made.
func incomplete(cmd *cobra.Command, words string) error {
	fmt.Fprintln(cmd.ErrOrStderr(), "countersign:", words)
	return errIncomplete
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
	return &adviceError{err, fmt.Sprintf("It is not known whether the change was made. Give the same command again with --request-id %s: it is then not made twice.", c.id)}
}
