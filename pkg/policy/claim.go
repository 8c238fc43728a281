package policy

import (
	"encoding/binary"

	"github.com/countersign/countersign/pkg/secret"
)

// Claim is the token of a request, as far as it can be judged without the app's policy. It shares memory
// with the token.
type Claim struct {
	token      secret.Secret
	wellFormed bool
	// digest is that of the text when it is well-formed. Another text's digest matters only to apps that
	// have imported tokens, and a text that is long takes long.
	digest secret.Digest
}

// ClaimOf judges a token. It does not allocate.
func ClaimOf(token secret.Secret) (c Claim) {
	c.token = token
	text := token.Reveal()
	if c.wellFormed = secret.WellFormed(text); c.wellFormed {
		c.digest = secret.DigestOf(text)
	}
	return c
}

// Hash spreads tokens; it is 0 for one that is not well-formed.
func (c *Claim) Hash() uint64 { return binary.BigEndian.Uint64(c.digest[:]) }
