// Package rules computes the change of each management call to an app's document (rules B01 to B18 and B28)
// with pure functions. They read neither a clock nor a store, and never change their input. A nil document
// stands for an app without one. This package is not part of the public API and may change in any release.
package rules

import (
	"crypto/rand"
	"encoding/base32"
	"slices"
	"strings"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
)

const (
	// MaxTokens is the most ACTIVE or DISABLED tokens of an app (B01).
	MaxTokens = 1000
	// Retention is how long REVOKED and EXPIRED tokens are listed (B06).
	Retention = 30 * 24 * time.Hour
	// MaxEnded is the most REVOKED and EXPIRED tokens that a document keeps whole: the latest ones. It bounds
	// the document of an app that makes and ends very many tokens.
	MaxEnded = 5000
	// MaxDigests is the most tokens that an app can have and remember. A token counts from its creation on,
	// so that ending one never fails for lack of room.
	MaxDigests = policy.MaxMemory / 2
)

// By is the identity that makes a change, and the time of the change.
type By struct {
	Identity string
	Now      time.Time
}

func (by By) millis() int64 { return by.Now.UnixMilli() }

// NewTokenID returns a token id of 80 random bits, so that an app never sees an id twice.
func NewTokenID() string {
	var raw [10]byte
	_, _ = rand.Read(raw[:]) // never fails since Go 1.24
	return tokenIDPrefix + lowerBase32.EncodeToString(raw[:])
}

// IsTokenID tells whether a text has the form of a token id.
func IsTokenID(id string) bool {
	digits, prefixed := strings.CutPrefix(id, tokenIDPrefix)
	return prefixed && len(digits) == tokenIDLength && strings.Trim(digits, base32Alphabet) == ""
}

const (
	tokenIDPrefix = "tok_"
	tokenIDLength = 16 // 80 bits in base32

	base32Alphabet = "abcdefghijklmnopqrstuvwxyz234567"
)

var lowerBase32 = base32.NewEncoding(base32Alphabet).WithPadding(base32.NoPadding)

// edit returns a copy of a document to change. A deleted app starts again, with its digests remembered (B28).
func edit(before *record.Document, by By) *record.Document {
	if before == nil {
		return &record.Document{CreateMillis: by.millis(), UpdateMillis: by.millis()}
	}
	after := *before
	after.Tokens = slices.Clone(before.Tokens)
	after.UpdateMillis = by.millis()
	if before.Deleted {
		after.Deleted = false
		after.CreateMillis = by.millis()
	}
	return &after
}

// Find returns the index of a token in a document. Its error is an *Error.
func Find(d *record.Document, tokenID string) (int, error) {
	if d != nil && !d.Deleted {
		for i := range d.Tokens {
			if d.Tokens[i].ID == tokenID {
				return i, nil
			}
		}
	}
	return 0, missing("TOKEN_NOT_FOUND", "the app has no token %q", tokenID)
}
