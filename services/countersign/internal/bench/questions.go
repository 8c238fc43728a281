package bench

import (
	"fmt"

	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/internal/load"
	"github.com/countersign/countersign/services/store/bulk"
)

const (
	// deckSize is how many different questions there are when the store has that many apps to ask about.
	deckSize = 1 << 16
	// otherShare is how many of 20 questions of Mixed are of each kind that is not valid.
	otherShare = 1
)

// kind is what a question carries, and what is right to answer; every app enforces the scope.
type kind struct {
	reason countersignv1.Reason
	// token returns what is carried for the i-th sample; false when that sample has no such token.
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

// kinds returns what is asked about, each as often as its part of the whole: 20 kinds for Mixed, one for
// the others.
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
		var all []kind
		for range otherShare {
			all = append(all, unknown, revoked, others, missing)
		}
		for len(all) < 20 {
			all = append(all, valid)
		}
		return all
	}
	return []kind{valid}
}

// newDeck returns questions about samples of a store, each with its right answer.
func newDeck(samples []bulk.Sample, mix Mix, seed uint64) (*load.Deck, error) {
	kinds := mix.kinds()
	var questions []load.Question
	for _, k := range kinds {
		// Each kind asks about all samples that have what it needs, as often as its share of the deck wants.
		share, start := max(deckSize/len(kinds), 1), len(questions)
		for i, tried := len(questions)%len(samples), 0; tried < len(samples) && len(questions)-start < share; i, tried = (i+1)%len(samples), tried+1 {
			token, there := k.token(samples, i)
			if !there {
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

// emptyDeck returns the question of the empty server.
func emptyDeck() (*load.Deck, error) {
	q, err := load.NewQuestion(nil, load.Answer{})
	return load.NewDeck([]load.Question{q}, 0), err
}
