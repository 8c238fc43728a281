package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/services/store/tools"
)

func storeBackup(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup FILE --redis-url URL --keyring-file FILE",
		Short: "Write all of a store to a file, and prove it",
		Long: `Write all of a store to a file, and prove it. Each partition is that of one moment, whatever is changed meanwhile.

The file is signed with the key ring and holds no secrets, but names and notes of tokens. Without the key ring it is worth
nothing. It takes the place of a file that is there when it is whole, and not before.`,
		Example: "  countersign store backup store.backup --redis-url redis://localhost:6379/0 --keyring-file keyring.json",
		Args:    oneFile,
	}
	store := newStoreFlags(cmd)
	// Bound to no variable, since it must not be said by mistake.
	damaged := cmd.Flags().Bool("allow-damaged", false, "also when something does not verify; it is written as it stands")
	required(cmd, "redis-url", "keyring-file")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return store.use(cmd, g, func(ctx context.Context, operator *tools.Tools) error {
			done, err := operator.Backup(ctx, args[0], *damaged)
			if errors.Is(err, tools.ErrDamaged) {
				return store.about(damage(done.Findings, "no file was written; --allow-damaged writes one all the same"))
			}
			if err != nil {
				return store.about(err)
			}
			return g.answerValue(cmd, done, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "Store %s is in %s: %s.\n", done.StoreID, done.File, totals(done.Totals))
				if err == nil && len(done.Findings) > 0 {
					_, err = fmt.Fprintln(w, "As they stand in Redis are in it, and do not verify:")
				}
				return errors.Join(err, list(w, done.Findings))
			})
		})
	}
	return cmd
}

func storeVerify(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify (FILE | --redis-url URL) --keyring-file FILE",
		Short: "Prove everything in a store, or in a file",
		Long: `Prove everything in a store: heads, policies, the log, the digests, the audit trail, and that nothing else is there. With
a FILE, which is a backup or a validator's snapshot, prove what is in that. Exit code 1 says that something is wrong.`,
		Example: `  countersign store verify --redis-url redis://localhost:6379/0 --keyring-file keyring.json
  countersign store verify store.backup --keyring-file keyring.json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return misuse("want one FILE or none")
			}
			return nil
		},
	}
	store := newStoreFlags(cmd)
	required(cmd, "keyring-file")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 && *store.redisURL == "" {
			return misuse("want --redis-url, or a FILE")
		}
		return store.use(cmd, g, func(ctx context.Context, operator *tools.Tools) error {
			what := store.where()
			verify := func() (tools.Verified, error) { return operator.Verify(ctx) }
			if len(args) > 0 {
				what = args[0]
				verify = func() (tools.Verified, error) {
					v, _, err := operator.VerifyFile(ctx, args[0])
					return v, err
				}
			}
			verified, err := verify()
			if err != nil && len(args) == 0 {
				return store.about(err)
			}
			if err != nil {
				return err
			}
			if err := g.answerValue(cmd, verified, func(w io.Writer) error { return showVerified(w, &verified) }); err != nil {
				return err
			}
			if n := len(verified.Findings); n > 0 {
				return fmt.Errorf("%s: %s wrong", what, count(n, "thing"))
			}
			return nil
		})
	}
	return cmd
}

func showVerified(w io.Writer, v *tools.Verified) error {
	words := "Everything verifies"
	if len(v.Findings) > 0 {
		words = "Not everything verifies"
	}
	_, err := fmt.Fprintf(w, "%s: store %s, %s.\n", words, v.StoreID, totals(v.Totals))
	return errors.Join(err, list(w, v.Findings))
}

func totals(t tools.Totals) string {
	return fmt.Sprintf("%s, %s, %s of the log, %s", count(t.Partitions, "partition"), count(int(t.Apps), "app"),
		count(int(t.Links), "change"), count(int(t.AuditRows), "audit row"))
}

// damage returns an error with what was found, a line for each.
func damage(findings []tools.Finding, then string) error {
	words := fmt.Sprintf("%s wrong; %s", count(len(findings), "thing"), then)
	for _, f := range findings {
		words += "\n  " + f.String()
	}
	return errors.New(words)
}
