package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/importfile"
	"github.com/countersign/countersign/services/countersign/internal/show"
	"github.com/countersign/countersign/services/countersign/internal/words"
	"github.com/countersign/countersign/services/internal/cmdline"
)

func tokenImport(g *globals) *cobra.Command {
	request := &countersignv1.ImportTokensRequest{}
	item := &countersignv1.TokenImport{}
	var change change
	var scopes words.Scopes
	var secretPath, digest string
	var file fileImport
	cmd := &cobra.Command{
		Use:                   "import (--file FILE | --app APP --name NAME (--secret-file FILE | --sha256 HEX))",
		DisableFlagsInUseLine: true,

		Short: "Import secrets of another system, or their digests",
		Long: `Import secrets of another system, or their SHA-256 digests, so that nothing changes for their users.

The file is CSV or JSON lines, in UTF-8, with the tokens of one or of many apps. CSV begins with the
names of its columns, in any order; commas, semicolons or tabs separate them:
  app_id,name,scopes,secret
  pezwd5bre2xb,backend,events sessions,97d9b2c1e0f84c5aa1d0b7c6d5e4f3a2
JSON lines have one object on each line:
  {"app_id": "pezwd5bre2xb", "name": "backend", "scopes": ["events"], "secret": "..."}
Instead of secret there may be sha256, 64 hexadecimal digits. --app is the app of lines without one.

Lines that cannot be imported are listed in a report, each with its reason; the others are imported.
After an interruption, the same command with --resume goes on. --dry-run finds what can be found
without a change; it cannot see that an app has a secret already.

Countersign cannot check the strength of a digest's secret: make sure that it was random and has at
least 112 bits.`,
		Example: `  countersign token import --file tokens.csv --dry-run
  countersign token import --app pezwd5bre2xb --file tokens.jsonl
  countersign token import --app pezwd5bre2xb --name old --scopes events --secret-file old.secret`,
	}
	flags := cmd.Flags()
	flags.StringVar(&request.AppId, "app", "", "`id` of the app; with --file, of lines that name none")
	flags.StringVar(&item.Name, "name", "", "`name` of the token, unique in the app")
	flags.Var(&scopes, "scopes", grantHelp)
	flags.StringVar(&secretPath, "secret-file", "", "`file` with the secret; - is the standard input")
	flags.StringVar(&digest, "sha256", "", "SHA-256 of the secret, 64 hexadecimal `digits`")
	flags.StringVar(&file.path, "file", "", "`file` of CSV or JSON lines; - is the standard input")
	file.flags(cmd)
	change.flags(cmd)
	cmd.MarkFlagsOneRequired("name", "file")
	cmd.MarkFlagsOneRequired("secret-file", "sha256", "file")
	cmd.MarkFlagsMutuallyExclusive("secret-file", "sha256", "file")
	cmd.MarkFlagsMutuallyExclusive("name", "file")
	cmd.MarkFlagsMutuallyExclusive("scopes", "file")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		switch {
		case file.path != "":
			file.options.RequestID = change.id
			return file.run(cmd, g, request.GetAppId(), &change)
		case request.GetAppId() == "":
			return cmdline.Misuse("--app: want the app of the token")
		case file.given():
			return cmdline.Misuse("--dry-run, --resume and --report-file go with --file only")
		case secretPath != "":
			err = importSecret(cmd, item, secretPath)
		default:
			err = importDigest(item, digest)
		}
		if err != nil {
			return err
		}
		item.Scopes = scopes
		request.Imports = []*countersignv1.TokenImport{item}
		request.RequestId = change.requestID()
		return change.manage(cmd, g, func(ctx context.Context, authority countersignv1.AuthorityServiceClient) (receipted, error) {
			response, err := authority.ImportTokens(ctx, request)
			if err != nil {
				return nil, change.outcome(err)
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
	digest, err := importfile.ParseDigest(text)
	if err != nil {
		return cmdline.Misuse("--sha256: %w", err)
	}
	item.Credential = &countersignv1.TokenImport_Sha256{Sha256: digest}
	return nil
}
