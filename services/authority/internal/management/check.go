package management

import (
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/visible"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/contract"
	"github.com/countersign/countersign/services/authority/internal/rules"
)

const (
	maxNameLength      = 100
	maxNoteLength      = 1000
	maxRequestIDLength = 64
	maxEtagLength      = 64
)

func checkAppID(id string) error {
	if !policy.ValidAppID(id) {
		return apierr.Invalid("app_id", "want 1 to %d characters of A-Z a-z 0-9 - _", policy.MaxAppIDLength)
	}
	return checkNoSecret("app_id", id)
}

// checkTokenID accepts only the form of a token id. A secret that was sent in this field is rejected before
// an error can repeat it.
func checkTokenID(field, id string) error {
	if !rules.IsTokenID(id) {
		return apierr.Invalid(field, "want a token id: tok_ and 16 characters of a-z 2-7")
	}
	return nil
}

func checkEtag(field, etag string) error {
	if len(etag) > maxEtagLength {
		return apierr.Invalid(field, "want an etag as it was answered, or none")
	}
	return nil
}

// checkChanging checks the fields that all changing requests have.
func checkChanging(request changing) error {
	id := request.GetRequestId()
	if len(id) > maxRequestIDLength || strings.ContainsFunc(id, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-_.:", r))
	}) {
		return apierr.Invalid("request_id", "want 1 to %d characters of A-Z a-z 0-9 - _ . :", maxRequestIDLength)
	}
	if err := checkNoSecret("request_id", id); err != nil {
		return err
	}
	if wait := request.GetWaitForPropagation(); wait != nil &&
		(wait.CheckValid() != nil || wait.AsDuration() <= 0 || wait.AsDuration() > maxWait) {
		return apierr.Invalid("wait_for_propagation", "want more than 0 and at most %d s", int(maxWait.Seconds()))
	}
	return nil
}

func checkNote(field, note string) error {
	if utf8.RuneCountInString(note) > maxNoteLength {
		return apierr.Invalid(field, "want at most %d characters", maxNoteLength)
	}
	if !visible.Text(note) {
		return apierr.Invalid(field, "want characters that can be seen, plain spaces, tabs and line feeds: "+
			"no other control, no zero-width or bidirectional characters, no byte order mark")
	}
	return checkNoSecret(field, note)
}

// checkNoSecret rejects a secret that was pasted into the wrong field, to keep it out of lists, logs and the
// audit trail (B02).
func checkNoSecret(field, text string) error {
	if secret.Within(text) {
		return apierr.Invalid(field, "holds a secret, which would be shown to everybody who may list")
	}
	return nil
}

// scopesOf checks and returns the scopes of a request. Package rules decides which may be granted or
// enforced.
func scopesOf(field string, scopes []countersignv1.Scope) (policy.ScopeSet, error) {
	var set policy.ScopeSet
	for i, s := range scopes {
		if _, known := countersignv1.Scope_name[int32(s)]; !known || s == countersignv1.Scope_SCOPE_UNSPECIFIED {
			return 0, apierr.Invalid(field, "[%d]: want one of %s", i, contract.ScopeNames(everyScope))
		}
		one := policy.ScopesOf(policy.Scope(s))
		if set&one != 0 {
			return 0, apierr.Invalid(field, "%s is there twice", contract.ScopeNames(one))
		}
		set |= one
	}
	return set, nil
}

// everyScope is the set of all scopes of the contract.
var everyScope = func() (set policy.ScopeSet) {
	for number := range countersignv1.Scope_name {
		if number != 0 {
			set |= policy.ScopesOf(policy.Scope(number))
		}
	}
	return set
}()

// maxTime is the latest time that a request may name: a Timestamp ends with the year 9999 (RFC 3339).
var maxTime = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// millisOf checks an optional time, and returns it in milliseconds since the Unix epoch; absent is 0.
func millisOf(field string, t *timestamppb.Timestamp) (int64, error) {
	if t == nil {
		return 0, nil
	}
	if t.CheckValid() != nil || t.AsTime().After(maxTime) || t.AsTime().UnixMilli() <= 0 {
		return 0, apierr.Invalid(field, "want a time after 1970 and before the year 10000")
	}
	return t.AsTime().UnixMilli(), nil
}
