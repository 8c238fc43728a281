package policy

import "github.com/countersign/countersign/pkg/secret"

// Reason is the verdict on a request's token, with the numbers of countersign.v1.Reason.
type Reason uint8

// The verdicts, in the order in which Decide checks for them (B19).
const (
	AppNotConfigured   Reason = 1
	TokenValid         Reason = 2
	TokenValidUnscoped Reason = 3
	TokenMissing       Reason = 4
	TokenMalformed     Reason = 5
	TokenUnknown       Reason = 6
	TokenRevoked       Reason = 7
	TokenDisabled      Reason = 8
	TokenExpired       Reason = 9
	ScopeNotGranted    Reason = 10
	SourceNotSupported Reason = 11
)

// Source is the kind of sender of a request, with the numbers of countersign.v1.Source. Every number but
// SourceGoogleTagManager counts as unspecified (B18).
type Source int32

// SourceGoogleTagManager cannot use S2S security (B18).
const SourceGoogleTagManager Source = 1

// Request is one request to decide about, without its app.
type Request struct {
	// Token is the secret that the request carried. The zero value, or an empty secret, means none.
	Token secret.Secret
	// Scope is the endpoint, from 1 to MaxScope.
	Scope  Scope
	Source Source
	// NowMillis is the time of the decision, in milliseconds since the Unix epoch.
	NowMillis int64
}

// Decision is the answer to one request.
type Decision struct {
	Allow  bool
	Reason Reason
	// Enforced says whether the scope was enforced.
	Enforced bool
	// TokenID is the id of the recognised token in any state; empty for none. It shares memory with the
	// policy: clone it to keep it.
	TokenID string
}

// Decide answers one request by an app's policy; p is nil for an app that has none. It follows B19 from
// APP_NOT_CONFIGURED on, uses nothing but its arguments, and does not allocate.
func Decide(p *Policy, r Request) Decision {
	if p == nil || p.Deleted() {
		return Decision{Allow: true, Reason: AppNotConfigured}
	}
	c := ClaimOf(r.Token)
	return DecideClaim(p, r, &c)
}

// DecideClaim is Decide for a token whose claim is known. It ignores r.Token.
func DecideClaim(p *Policy, r Request, c *Claim) Decision {
	if p == nil || p.Deleted() {
		return Decision{Allow: true, Reason: AppNotConfigured}
	}
	enforced := p.Enforcement().At(r.NowMillis).Has(r.Scope)
	if r.Source == SourceGoogleTagManager {
		return Decision{
			Allow:    c.token.Reveal() == "" && !enforced,
			Reason:   SourceNotSupported,
			Enforced: enforced,
		}
	}
	d := Decision{Enforced: enforced}
	d.Reason, d.TokenID = p.verdict(r, c)
	d.Allow = !enforced || d.Reason == TokenValid || d.Reason == TokenValidUnscoped
	return d
}

// verdict returns the verdict on the request's token apart from enforcement, and the token's id when it is
// known.
func (p *Policy) verdict(r Request, c *Claim) (Reason, string) {
	digest := &c.digest
	if !c.wellFormed {
		text := c.token.Reveal()
		switch {
		case text == "":
			return TokenMissing, ""
		case len(text) > secret.MaxLength, !p.imported():
			return TokenMalformed, ""
		}
		imported := secret.DigestOf(text)
		digest = &imported
	}
	t, found := p.find(digest)
	switch {
	case found:
	case p.Memory().Has(digest):
		return TokenRevoked, ""
	default:
		return TokenUnknown, ""
	}
	switch t.stateAt(r.NowMillis) {
	case Revoked:
		return TokenRevoked, t.id()
	case Disabled:
		return TokenDisabled, t.id()
	case Expired:
		return TokenExpired, t.id()
	}
	switch {
	case !t.covers(r.Scope):
		return ScopeNotGranted, t.id()
	case t.scopes() == 0:
		return TokenValidUnscoped, t.id()
	}
	return TokenValid, t.id()
}
