package importfile

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/visible"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/words"
)

const maxNameLength = 100

// errDigest does not repeat the text: it may be the secret itself, by mistake.
var errDigest = errors.New("want 64 hexadecimal digits")

// fieldError is a field that is wrong.
type fieldError struct{ field, reason string }

// Error names the field.
func (f *fieldError) Error() string { return f.field + ": " + f.reason }

func wrong(field, format string, args ...any) error {
	return &fieldError{field, fmt.Sprintf(format, args...)}
}

// fields are the values of one row, as the file has them. A nil pointer is a value that the row does not
// have.
type fields struct {
	appID, name    string
	scopes         []string
	secret, sha256 *string
}

// check returns the row. The authority makes the same checks; here they name the line, and cost no call.
func (f fields) check(appID string) (row Row, err error) {
	row.Import = &countersignv1.TokenImport{}
	if row.AppID, err = f.app(appID); err != nil {
		return row, err
	}
	if row.Import.Name, err = nameOf(f.name); err != nil {
		return row, err
	}
	if row.Import.Scopes, err = scopesOf(f.scopes); err != nil {
		return row, err
	}
	switch {
	case f.secret != nil && f.sha256 != nil:
		return row, wrong("secret", "want secret or sha256, not both")
	case f.secret != nil:
		if err := secret.CheckImport(*f.secret); err != nil {
			return row, wrong("secret", "%s", err)
		}
		if secret.WellFormedAdminKey(*f.secret) {
			return row, wrong("secret", "is an admin key")
		}
		row.Import.Credential = &countersignv1.TokenImport_Secret{Secret: *f.secret}
		row.digest = secret.DigestOf(*f.secret)
	case f.sha256 != nil:
		digest, err := ParseDigest(*f.sha256)
		if err != nil {
			return row, wrong("sha256", "%s", err)
		}
		row.Import.Credential = &countersignv1.TokenImport_Sha256{Sha256: digest}
		row.digest = secret.Digest(digest)
		if row.digest == (secret.Digest{}) || row.digest == sha256.Sum256(nil) {
			return row, wrong("sha256", "want the digest of a secret: this is the digest of an empty text, or all zeros")
		}
	default:
		return row, wrong("secret", "want secret or sha256")
	}
	return row, nil
}

// app returns the row's app; given is the app for all rows, if there is one.
func (f fields) app(given string) (string, error) {
	switch {
	case f.appID == "" && given == "":
		return "", wrong("app_id", "want the app of the token, or --app for all rows")
	case f.appID == "":
		return given, nil
	case given != "" && f.appID != given:
		return "", wrong("app_id", "differs from --app; leave --app out when the file names apps")
	case !policy.ValidAppID(f.appID):
		return "", wrong("app_id", "want 1 to %d characters of A-Z a-z 0-9 - _", policy.MaxAppIDLength)
	case secret.Within(f.appID):
		return "", wrong("app_id", "holds a secret, which would be shown to everybody who may list")
	}
	return f.appID, nil
}

func nameOf(text string) (string, error) {
	name := norm.NFC.String(strings.TrimSpace(text))
	switch {
	case name == "" || utf8.RuneCountInString(name) > maxNameLength:
		return "", wrong("name", "want 1 to %d characters", maxNameLength)
	case !visible.Name(name):
		return "", wrong("name", "want characters that can be seen, and plain spaces between them: "+
			"no control, zero-width or bidirectional characters, no byte order mark")
	case secret.Within(name):
		return "", wrong("name", "holds a secret, which would be shown to everybody who may list")
	}
	return name, nil
}

func scopesOf(names []string) ([]countersignv1.Scope, error) {
	var scopes []countersignv1.Scope
	for i, name := range names {
		var one words.Scope
		switch err := one.Set(name); {
		case err != nil:
			return nil, wrong("scopes", "scope %d is unknown; want %s", i+1, words.ListScopes(words.ProposedScopes()))
		case countersignv1.Scope(one) == countersignv1.Scope_SCOPE_GDPR:
			return nil, wrong("scopes", "gdpr cannot be granted: every active token authenticates it")
		case slices.Contains(scopes, countersignv1.Scope(one)):
			return nil, wrong("scopes", "%s is listed twice", &one)
		}
		scopes = append(scopes, countersignv1.Scope(one))
	}
	return scopes, nil
}

// ParseDigest reads a SHA-256 digest of 64 hexadecimal digits. Its error does not repeat the text.
func ParseDigest(text string) ([]byte, error) {
	digest, err := hex.DecodeString(text)
	if err != nil || len(digest) != sha256.Size {
		return nil, errDigest
	}
	return digest, nil
}
