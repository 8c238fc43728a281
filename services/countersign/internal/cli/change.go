package cli

import (
	"crypto/rand"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// change is what commands have in common that change something: a request id, by which a change whose outcome is not
// known can be asked for again without being made twice (AIP-155).
type change struct {
	id string
	// repeatWith is what else has to be given to make the very same request again: times that were given as durations.
	repeatWith []string
}

func (c *change) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.id, "request-id", "",
		"`id` to find out by, within 24 h, whether the change was made: the same command with the same id does nothing twice (default random)")
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
