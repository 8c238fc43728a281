package words

import (
	"fmt"
	"slices"
	"strings"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

var scopes = countersignv1.Scope(0).Descriptor()

// ScopeNames lists the scopes of the contract, for help texts.
var ScopeNames = strings.Join(EnumNames(scopes), ", ")

// Scopes is a flag for a list of scopes, separated by commas. An empty list is an error. In a script it is a
// variable that was not set, and no scopes would mean every scope for a token and no enforcement for an app.
type Scopes []countersignv1.Scope

// Type returns the placeholder of the value in help texts.
func (*Scopes) Type() string { return "scopes" }

// String returns the scopes in the form that Set accepts.
func (s *Scopes) String() string { return ListScopes(*s) }

// Set parses scopes and adds them.
func (s *Scopes) Set(text string) error {
	for part := range strings.SplitSeq(text, ",") {
		var one Scope
		if err := one.Set(part); err != nil {
			return err
		}
		if slices.Contains(*s, countersignv1.Scope(one)) {
			return fmt.Errorf("%s is listed twice", &one)
		}
		*s = append(*s, countersignv1.Scope(one))
	}
	return nil
}

// Scope is a flag for one scope.
type Scope countersignv1.Scope

// Type returns the placeholder of the value in help texts.
func (*Scope) Type() string { return "scope" }

// String returns the scope in the form that Set accepts; empty when there is none.
func (s *Scope) String() string {
	if *s == 0 {
		return ""
	}
	return strings.ToLower(Enum(countersignv1.Scope(*s)))
}

// Set parses a scope.
func (s *Scope) Set(text string) error {
	number, err := ParseEnum(scopes, text)
	if err != nil {
		return err
	}
	*s = Scope(number)
	return nil
}

// ListScopes formats scopes in the form that the flags accept.
func ListScopes(list []countersignv1.Scope) string {
	names := make([]string, len(list))
	for i := range list {
		names[i] = strings.ToLower(Enum(list[i]))
	}
	return strings.Join(names, ",")
}

// ProposedScopes returns every scope of the contract except GDPR (B12).
func ProposedScopes() []countersignv1.Scope {
	var all []countersignv1.Scope
	for i := range scopes.Values().Len() {
		switch scope := countersignv1.Scope(scopes.Values().Get(i).Number()); scope {
		case countersignv1.Scope_SCOPE_UNSPECIFIED, countersignv1.Scope_SCOPE_GDPR:
		default:
			all = append(all, scope)
		}
	}
	return all
}
