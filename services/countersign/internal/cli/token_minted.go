package cli

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/show"
)

// minted is a new token and its secret, which cannot be shown again.
type minted struct {
	appID    string
	token    *countersignv1.Token
	secret   *string // points into the response; empty when the response is a repetition
	position string
}

// show writes the response, and the secret with it or to a file.
func (m minted) show(cmd *cobra.Command, g *globals, file *secretFile, response proto.Message, path string) error {
	repeated := *m.secret == ""
	if err := file.take(m.secret); err != nil {
		return fmt.Errorf("token %s was created, but its secret could not be written and is lost; rotate or revoke it: %w",
			m.token.GetTokenId(), err)
	}
	if err := g.answer(cmd, response, func(w io.Writer) error { return m.people(w, path) }); err != nil {
		return fmt.Errorf("token %s was created, but could not be shown: %w", m.token.GetTokenId(), err)
	}
	if !repeated {
		return nil
	}
	const told = "this request was made before, and its secret was shown then; it cannot be shown again. " +
		"If nobody has it, rotate the token"
	if path != "" {
		return errors.New(told)
	}
	_, err := fmt.Fprintln(cmd.ErrOrStderr(), "countersign:", told)
	return err
}

func (m minted) people(w io.Writer, path string) error {
	rows := show.Token(m.appID, m.token, time.Now())
	rows = append(rows, show.Row{Name: "Consistency token", Value: m.position}, show.Row{Name: "Secret", Value: *m.secret})
	if *m.secret == "" && path != "" {
		rows = append(rows, show.Row{Name: "Secret", Value: "in " + path})
	}
	if err := show.Details(w, rows...); err != nil || *m.secret == "" {
		return err
	}
	_, err := fmt.Fprintln(w, "\nSave the secret now: it is not stored and cannot be shown again.")
	return err
}
