package cli

import (
	"context"
	"encoding/hex"
	"io"

	"github.com/spf13/cobra"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/show"
	"github.com/countersign/countersign/services/countersign/internal/words"
	"github.com/countersign/countersign/services/internal/cmdline"
)

func tokenImport(g *globals) *cobra.Command {
	request := &countersignv1.ImportTokensRequest{}
	item := &countersignv1.TokenImport{}
	var change change
	var scopes words.Scopes
	var file, secretPath, digest string
	cmd := &cobra.Command{
		Use:                   "import --app APP (--name NAME (--secret-file FILE | --sha256 HEX) | --file FILE)",
		DisableFlagsInUseLine: true,

		Short: "Import secrets of another system, or their digests; all or none",
		Long: `Import secrets of another system, or their SHA-256 digests, so that nothing changes for their users.

Each line of --file is a JSON object with either secret or sha256:
  {"name": "backend", "scopes": ["events"], "secret": "..."}
Countersign cannot check the strength of a digest's secret: make sure that it was random and has at
least 112 bits.`,
		Example: `  countersign token import --app pezwd5bre2xb --name old --scopes events --secret-file old.secret
  countersign token import --app pezwd5bre2xb --file tokens.jsonl`,
	}
	flags := cmd.Flags()
	flags.StringVar(&request.AppId, "app", "", "`id` of the app (required)")
	flags.StringVar(&item.Name, "name", "", "`name` of the token, unique in the app")
	flags.Var(&scopes, "scopes", grantHelp)
	flags.StringVar(&secretPath, "secret-file", "", "`file` with the secret; - is the standard input")
	flags.StringVar(&digest, "sha256", "", "SHA-256 of the secret, 64 hexadecimal `digits`")
	flags.StringVar(&file, "file", "", "`file` with a JSON object on each line; - is the standard input")
	change.flags(cmd)
	required(cmd, "app")
	cmd.MarkFlagsOneRequired("name", "file")
	cmd.MarkFlagsOneRequired("secret-file", "sha256", "file")
	cmd.MarkFlagsMutuallyExclusive("secret-file", "sha256", "file")
	cmd.MarkFlagsMutuallyExclusive("name", "file")
	cmd.MarkFlagsMutuallyExclusive("scopes", "file")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		var lines []int // line numbers of the objects in --file
		item.Scopes = scopes
		request.Imports = []*countersignv1.TokenImport{item}
		switch {
		case file != "":
			request.Imports, lines, err = readImports(cmd, file)
		case secretPath != "":
			err = importSecret(cmd, item, secretPath)
		default:
			err = importDigest(item, digest)
		}
		if err != nil {
			return err
		}
		request.RequestId = change.requestID()
		return change.manage(cmd, g, func(ctx context.Context, authority countersignv1.AuthorityServiceClient) (receipted, error) {
			response, err := authority.ImportTokens(ctx, request)
			if err != nil {
				return nil, change.outcome(&importError{err, lines})
			}
			return response, g.answer(cmd, response, func(w io.Writer) error {
				return show.NewList(w, show.TokenHeading...).Page(tokenRows(response.GetTokens()))
			})
		})
	}
	return cmd
}

func importSecret(cmd *cobra.Command, item *countersignv1.TokenImport, path string) error {
	foreign, err := readSecret(cmd, path)
	item.Credential = &countersignv1.TokenImport_Secret{Secret: foreign.Reveal()}
	return err
}

// importDigest does not repeat the digest in its error: it may be the secret itself, by mistake.
func importDigest(item *countersignv1.TokenImport, text string) error {
	digest, err := parseDigest(text)
	if err != nil {
		return cmdline.Misuse("--sha256: %w", err)
	}
	item.Credential = digest
	return nil
}

func parseDigest(text string) (*countersignv1.TokenImport_Sha256, error) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != 32 {
		return nil, errDigest
	}
	return &countersignv1.TokenImport_Sha256{Sha256: raw}, nil
}
