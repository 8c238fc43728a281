package testbed

import (
	"fmt"

	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/internal/load"
	"github.com/countersign/countersign/services/store/bulk"
)

const (
	// deckSize is about how many different questions a deck has when the store has enough apps.
	deckSize = 1 << 16
	// mixedParts is the number of equal parts of Mixed. Unknown, Revoked, Others and Missing have one part
	// each; the rest is Valid.
	mixedParts = 20
)

// kind is a kind of token, with the reason that a right answer gives. Every app enforces the scope.
type kind struct {
	reason countersignv1.Reason
	// token returns a token of this kind for the i-th sample. It returns false when the sample has none.
	token func(samples []bulk.Sample, i int) (string, bool)
}

var (
	valid = kind{countersignv1.Reason_REASON_TOKEN_VALID, func(s []bulk.Sample, i int) (string, bool) {
		return s[i].Secret, s[i].Secret != ""
	}}
	unknown = kind{countersignv1.Reason_REASON_TOKEN_UNKNOWN, func([]bulk.Sample, int) (string, bool) {
		return secret.Mint().Reveal(), true
	}}
	revoked = kind{countersignv1.Reason_REASON_TOKEN_REVOKED, func(s []bulk.Sample, i int) (string, bool) {
		return s[i].Revoked, s[i].Revoked != ""
	}}
	others = kind{countersignv1.Reason_REASON_TOKEN_UNKNOWN, func(s []bulk.Sample, i int) (string, bool) {
		other := s[(i+1)%len(s)]
		return other.Secret, other.Secret != "" && other.AppID != s[i].AppID
	}}
	malformed = kind{countersignv1.Reason_REASON_TOKEN_MALFORMED, func([]bulk.Sample, int) (string, bool) {
		text := secret.Mint().Reveal()
		last := byte('0')
		if text[len(text)-1] == last {
			last = '1'
		}
		return text[:len(text)-1] + string(last), true
	}}
	missing = kind{countersignv1.Reason_REASON_TOKEN_MISSING, func([]bulk.Sample, int) (string, bool) {
		return "", true
	}}
)

// kinds returns the kinds of a mix. Each element gets an equal share of the questions, so a kind with a
// larger share is repeated. Mixed has mixedParts elements; every other mix has one.
func (m Mix) kinds() []kind {
	switch m {
	case Unknown:
		return []kind{unknown}
	case Malformed:
		return []kind{malformed}
	case Missing:
		return []kind{missing}
	case Revoked:
		return []kind{revoked}
	case Others:
		return []kind{others}
	case Mixed:
		all := []kind{unknown, revoked, others, missing}
		for len(all) < mixedParts {
			all = append(all, valid)
		}
		return all
	}
	return []kind{valid}
}

// newDeck returns questions about sample apps of a store, each with its right answer.
func newDeck(samples []bulk.Sample, mix Mix, seed uint64) (*load.Deck, error) {
	kinds := mix.kinds()
	share := max(deckSize/len(kinds), 1)
	var questions []load.Question
	for _, k := range kinds {
		// Each element of kinds begins at another sample, and has at most one question about each sample.
		first, start := len(questions)%len(samples), len(questions)
		for n := 0; n < len(samples) && len(questions)-start < share; n++ {
			i := (first + n) % len(samples)
			token, has := k.token(samples, i)
			if !has {
				continue
			}
			q, err := load.NewQuestion(&countersignv1.AuthorizeRequest{
				AppId: samples[i].AppID, Token: token, Scope: countersignv1.Scope_SCOPE_EVENTS,
			}, load.Answer{Decision: decisionFor(k.reason), Reason: k.reason})
			if err != nil {
				return nil, err
			}
			questions = append(questions, q)
		}
	}
	if len(questions) == 0 {
		return nil, fmt.Errorf("--tokens: there are too few for --mix %s", mix)
	}
	return load.NewDeck(questions, seed), nil
}

func decisionFor(reason countersignv1.Reason) countersignv1.Decision {
	if reason == countersignv1.Reason_REASON_TOKEN_VALID {
		return countersignv1.Decision_DECISION_ALLOW
	}
	return countersignv1.Decision_DECISION_DENY
}

// newEmptyDeck returns a deck with the one question for empty servers: an empty message.
func newEmptyDeck() (*load.Deck, error) {
	q, err := load.NewQuestion(nil, load.Answer{})
	return load.NewDeck([]load.Question{q}, 0), err
}
