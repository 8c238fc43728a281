package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/services/internal/cmdline"
	"github.com/countersign/countersign/services/store/tools"
)

func storeBackup(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup FILE --redis-url URL --keyring-file FILE",
		Short: "Write the whole store to a file, and verify it",
		Long: `Write the whole store to a file, and verify it. Each partition is of one moment, even when changes
go on.

The file is signed with the key ring and useless without it. It holds names and notes of tokens, and
no secrets. It replaces an existing file only when it is complete.`,
		Example: "  countersign store backup store.backup --redis-url redis://redis --keyring-file ring.json",
		Args:    oneFile,
	}
	store := newStoreFlags(cmd)
	// This flag has no environment variable, so that nobody sets it by mistake.
	damaged := cmd.Flags().Bool("allow-damaged", false,
		"write the file even if records do not verify; it holds them as they are")
	required(cmd, "redis-url", "keyring-file")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return store.use(cmd, g, func(ctx context.Context, operator *tools.Tools) error {
			done, err := operator.Backup(ctx, args[0], *damaged)
			if errors.Is(err, tools.ErrDamaged) {
				return store.about(damage(done.Findings, "no file was written; --allow-damaged writes one anyway"))
			}
			if err != nil {
				return store.about(err)
			}
			return g.answerValue(cmd, done, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "Store %s is in %s: %s.\n", done.StoreID, done.File, totals(done.Totals))
				if err == nil && len(done.Findings) > 0 {
					_, err = fmt.Fprintln(w, "These records do not verify; the file holds them as they are in Redis:")
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
		Short: "Verify everything in a store, or in a file",
		Long: `Verify everything in a store: heads, policies, log, digests, audit trail, and that no foreign keys
are there. With a FILE, verify a backup or a validator's snapshot. Exit code 1: something is wrong.`,
		Example: `  countersign store verify --redis-url redis://redis --keyring-file ring.json
  countersign store verify store.backup --keyring-file ring.json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return cmdline.Misuse("want one FILE or none")
			}
			return nil
		},
	}
	store := newStoreFlags(cmd)
	required(cmd, "keyring-file")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 && *store.redisURL == "" {
			return cmdline.Misuse("want --redis-url, or a FILE")
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

// damage returns an error that lists findings, one on each line.
func damage(findings []tools.Finding, then string) error {
	words := fmt.Sprintf("%s wrong; %s", count(len(findings), "thing"), then)
	for _, f := range findings {
		words += "\n  " + f.String()
	}
	return errors.New(words)
}
