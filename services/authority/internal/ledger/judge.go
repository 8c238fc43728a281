package ledger

import (
	"math/rand/v2"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/usage"
)

// maxAhead is how far a minute may be ahead of this authority's clock. A later one counts as the present one.
const maxAhead = time.Hour

// verdict is what of a batch is added.
type verdict struct {
	byApp map[string]*addition
	// decisions is the number of decisions in it. Strange are those of apps that do not exist, and dropped
	// those that are too old or of an unknown kind.
	decisions, strange, dropped uint64
}

// judge decides what of each batch is added. It fails when it is not known now whether an app exists.
//
// The counts come from validators, and a broken or hostile one must not fill the memory of Redis. So an app
// must exist, a token must be one of the app's, and the kind of decision must be one of the contract's. While
// the tokens of an app are not known, counts keep their token ids, because an id that is dropped is lost for
// ever.
func (l *Ledger) judge(jobs []*job) (map[*job]*verdict, error) {
	now := l.config.Now()
	type app struct {
		tokens map[string]bool
		known  bool
	}
	apps := map[string]app{}
	all := map[*job]*verdict{}
	for _, j := range jobs {
		v := &verdict{byApp: map[string]*addition{}}
		all[j] = v
		for _, c := range j.batch.Counts {
			of, looked := apps[c.AppID]
			if !looked {
				var err error
				if of.tokens, of.known, err = l.config.Apps.Tokens(c.AppID); err != nil {
					return nil, err
				}
				apps[c.AppID] = of
			}
			switch {
			case !of.known:
				v.strange = usage.AddUp(v.strange, c.N)
				continue
			case now.Sub(c.Minute) > Days*24*time.Hour, !knownReason(c.Reason), !l.config.KnownScope(c.Scope):
				v.dropped = usage.AddUp(v.dropped, c.N)
				continue
			case c.Minute.Sub(now) > maxAhead:
				c.Minute = now.Truncate(time.Minute)
			}
			if c.TokenID != "" && of.tokens != nil && !of.tokens[c.TokenID] {
				c.TokenID = ""
			}
			a := v.byApp[c.AppID]
			if a == nil {
				a = &addition{tokens: of.tokens}
				v.byApp[c.AppID] = a
			}
			a.counts = append(a.counts, c)
			v.decisions = usage.AddUp(v.decisions, c.N)
		}
	}
	return all, nil
}

// knownReason tells the reasons that validators count: an app without a policy is not counted.
func knownReason(r policy.Reason) bool {
	return r > policy.AppNotConfigured && r <= policy.SourceNotSupported
}

// pauseOf returns a random pause with a mean, so that two authorities do not conflict again.
func pauseOf(mean time.Duration) time.Duration { return mean/2 + rand.N(mean) }
