package settings

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/countersign/countersign/pkg/policy"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// Staleness holds, for each scope, the age beyond which data does not decide any more; 0 means no bound.
type Staleness = [policy.MaxScope + 1]time.Duration

const (
	minStaleness = 100 * time.Millisecond
	maxStaleness = 720 * time.Hour
	// everyScope means all scopes without a bound of their own.
	everyScope = "all"
)

// MaxStaleness defines a flag for bounds by scope, such as events=10m,gdpr=2s or all=1h,gdpr=2s.
func MaxStaleness(flags *pflag.FlagSet, name, usage string) *Staleness {
	s := &staleness{}
	flags.Var(s, name, usage)
	return &s.bounds
}

type staleness struct {
	text   string
	bounds Staleness
}

// Type returns the placeholder of the value in help texts.
func (s *staleness) Type() string { return "bounds" }

// String returns the bounds as given.
func (s *staleness) String() string { return s.text }

// Set parses a list of scopes with their bounds, each scope once.
func (s *staleness) Set(value string) error {
	given := map[string]time.Duration{}
	for item := range strings.SplitSeq(value, ",") {
		name, bound, found := strings.Cut(item, "=")
		name = strings.ToLower(strings.TrimSpace(name))
		if !found || name != everyScope && scopeOf(name) == 0 {
			return fmt.Errorf("want scope=duration, separated by commas; the scopes are %s, %s", everyScope,
				strings.Join(scopeNames(), ", "))
		}
		if _, twice := given[name]; twice {
			return fmt.Errorf("%s is listed twice", name)
		}
		d, err := time.ParseDuration(strings.TrimSpace(bound))
		if err != nil {
			return errors.New("want durations such as 2s, 10m or 1h30m")
		}
		if d < minStaleness || d > maxStaleness {
			return fmt.Errorf("want durations from %s to %s", minStaleness, maxStaleness)
		}
		given[name] = d
	}
	var bounds Staleness
	for number := range bounds {
		bounds[number] = given[everyScope]
	}
	for name, bound := range given {
		if name != everyScope {
			bounds[scopeOf(name)] = bound
		}
	}
	s.text, s.bounds = value, bounds
	return nil
}

const scopePrefix = "SCOPE_"

// scopeOf returns the scope with a name of the command line; 0 for none.
func scopeOf(name string) policy.Scope {
	return policy.Scope(countersignv1.Scope_value[scopePrefix+strings.ToUpper(name)])
}

func scopeNames() (names []string) {
	values := countersignv1.Scope(0).Descriptor().Values()
	for i := range values.Len() {
		if value := values.Get(i); value.Number() != 0 {
			names = append(names, strings.ToLower(strings.TrimPrefix(string(value.Name()), scopePrefix)))
		}
	}
	return names
}
