package policy

import (
	"encoding/binary"

	"github.com/countersign/countersign/pkg/secret"
)

// Claim holds what is known about a request's token before the app's policy is read. It shares memory with
// the token.
type Claim struct {
	token      secret.Secret
	wellFormed bool
	// digest is the digest of a well-formed text, and zero otherwise. Other texts may be long, and only apps
	// with imported tokens need their digests.
	digest secret.Digest
}

// ClaimOf checks a token's form and digests it. It does not allocate.
func ClaimOf(token secret.Secret) (c Claim) {
	c.token = token
	text := token.Reveal()
	if c.wellFormed = secret.WellFormed(text); c.wellFormed {
		c.digest = secret.DigestOf(text)
	}
	return c
}

// Hash returns a number that spreads tokens evenly; 0 for a token that is not well-formed.
func (c *Claim) Hash() uint64 { return binary.BigEndian.Uint64(c.digest[:]) }
