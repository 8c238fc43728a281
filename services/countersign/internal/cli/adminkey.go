package cli

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/services/countersign/internal/provision"
	"github.com/countersign/countersign/services/internal/adminkeys"
)

func adminKeyCommand(g *globals) *cobra.Command {
	group := &cobra.Command{
		Use:   "admin-key",
		Short: "Create the keys with which administrators and validators call an authority",
	}
	group.AddCommand(adminKeyCreate(g))
	return group
}

func adminKeyCreate(g *globals) *cobra.Command {
	var key provision.AdminKey
	cmd := &cobra.Command{
		Use:   "create --name NAME --role ROLE --admin-keys-file FILE",
		Short: "Create an admin key and add its digest to the authority's file",
		Example: `  countersign admin-key create --name alice --role admin --admin-keys-file keys.json
  countersign admin-key create --name ci --role viewer --admin-keys-file keys.json --if-missing
  countersign admin-key create --name fleet --role validator --admin-keys-file keys.json`,
	}
	flags := cmd.Flags()
	flags.StringVar(&key.Name, "name", "", "`name` of the key's owner (required)")
	flags.Var((*role)(&key.Role), "role",
		"admin (read and change), viewer (read) or validator (report to the fleet) (required)")
	flags.StringVar(&key.KeysFile, "admin-keys-file", "",
		"`file` with the digests of all admin keys; created if missing (required)")
	// This flag hides the global flag of the same name and has no environment variable: a variable that names
	// the key to call with must not name a file to write.
	flags.StringVar(&key.KeyFile, "admin-key-file", "", "write the key to this new `file` instead of showing it")
	flags.BoolVar(&key.IfMissing, "if-missing", false, "do nothing if a key with that name exists")
	required(cmd, "name", "role", "admin-keys-file")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		made, created, err := key.Create()
		if err != nil || !created {
			return err
		}
		value := struct {
			Name string         `json:"name"`
			Role adminkeys.Role `json:"role"`
			Key  string         `json:"key,omitempty"`
		}{key.Name, key.Role, made.Reveal()}
		return g.answerValue(cmd, value, func(w io.Writer) error {
			if key.KeyFile != "" {
				_, err := fmt.Fprintf(w, "The admin key of %s (%s) is in %s.\n", key.Name, key.Role, key.KeyFile)
				return err
			}
			_, err := fmt.Fprintf(w, "Admin key of %s (%s):\n\n  %s\n\nSave it now: it is not stored and cannot be shown again.\n",
				key.Name, key.Role, made.Reveal())
			return err
		})
	}
	return cmd
}

// role is a flag for the role of an admin key.
type role adminkeys.Role

// Type returns the placeholder of the value in help texts.
func (*role) Type() string { return "role" }

// String returns the role.
func (r *role) String() string { return string(*r) }

// Set parses a role.
func (r *role) Set(text string) error {
	if !adminkeys.Role(text).Known() {
		return errors.New("want admin, viewer or validator")
	}
	*r = role(text)
	return nil
}
