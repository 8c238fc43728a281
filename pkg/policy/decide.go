package policy

import "github.com/countersign/countersign/pkg/secret"

// Reason is the verdict on a request's token, numbered as countersign.v1.Reason.
type Reason uint8

// The verdicts, in the order in which Decide looks for them (B19).
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

// Source is what sent a request, numbered as countersign.v1.Source. Every number but SourceGoogleTagManager
// counts as unspecified (B18).
type Source int32

// SourceGoogleTagManager cannot use S2S security (B18).
const SourceGoogleTagManager Source = 1

// Request is what a decision is about, besides the app.
type Request struct {
	// Token is the secret that the request carried; the zero value, or an empty one, is none.
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
	// TokenID is the token that was recognised, whatever its state; empty for none. It shares memory with
	// the policy, and whatever that is a part of: clone it to keep it.
	TokenID string
}

// Decide answers one request by an app's policy; p is nil for an app that has none. It follows B19 from
// APP_NOT_CONFIGURED on, touches nothing but its arguments, and does not allocate.
func Decide(p *Policy, r Request) Decision {
	if p == nil || p.Deleted() {
		return Decision{Allow: true, Reason: AppNotConfigured}
	}
	c := ClaimOf(r.Token)
	return DecideClaim(p, r, &c)
}

// DecideClaim does what Decide does for a token that was looked at before, and does not look at r.Token.
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

// verdict says what the request's token is worth, enforcement aside, and the id of the token when it is
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
