package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/text/unicode/norm"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/words"
	"github.com/countersign/countersign/services/internal/cmdline"
)

// whichToken are the flags that name a token: by its id, or by its name where that is unique.
type whichToken struct{ appID, tokenID, name string }

const (
	appHelp  = "`id` of the app (required)"
	nameHelp = "`name` of the token, if only one listed token has it"
)

// flags adds the flags, of which the command needs --app and one of the others.
func (w *whichToken) flags(cmd *cobra.Command) {
	w.add(cmd, appHelp, nameHelp)
	required(cmd, "app")
	cmd.MarkFlagsOneRequired("token", "name")
	cmd.MarkFlagsMutuallyExclusive("token", "name")
}

// add adds the flags, without rules on how they go together.
func (w *whichToken) add(cmd *cobra.Command, appHelp, nameHelp string) {
	cmd.Flags().StringVar(&w.appID, "app", "", appHelp)
	cmd.Flags().StringVar(&w.tokenID, "token", "", "`id` of the token")
	cmd.Flags().StringVar(&w.name, "name", "", nameHelp)
}

// find returns the token's id. A name costs a call to the authority.
func (w *whichToken) find(cmd *cobra.Command, g *globals) (string, error) {
	switch {
	case w.appID == "":
		return "", cmdline.Misuse("--app: want the app of the token")
	case w.tokenID != "":
		return w.tokenID, checkTokenID(w.tokenID)
	}
	var tokens []*countersignv1.Token
	err := g.manage(cmd, func(ctx context.Context, authority countersignv1.AuthorityServiceClient) (err error) {
		tokens, err = allTokens(ctx, authority, &countersignv1.ListTokensRequest{AppId: w.appID, PageSize: pageSize})
		return err
	})
	if err != nil {
		return "", err
	}
	return idOf(tokens, w.name)
}

// idOf returns the id of the token with a name. Several tokens may have it while one replaces the other.
func idOf(tokens []*countersignv1.Token, name string) (string, error) {
	name = norm.NFC.String(strings.TrimSpace(name)) // as the authority does with new names
	var ids, candidates []string
	for _, t := range tokens {
		if t.GetName() != name {
			continue
		}
		candidate := t.GetTokenId() + " is " + words.Enum(t.GetState())
		if t.GetSuccessorId() != "" {
			candidate += ", replaced by " + t.GetSuccessorId()
		}
		ids, candidates = append(ids, t.GetTokenId()), append(candidates, candidate)
	}
	switch len(ids) {
	case 0:
		return "", errors.New("--name: the app has no active or disabled token with this name; " +
			"'countersign token list' shows them")
	case 1:
		return ids[0], nil
	}
	return "", fmt.Errorf("--name: %s have this name; choose one with --token: %s",
		words.Plural(len(ids), "token"), strings.Join(candidates, "; "))
}
