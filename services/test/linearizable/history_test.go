package linearizable

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/anishathalye/porcupine"
)

// The calls of a history. Tokens are identified by a few names, so that calls conflict.
type kind int

const (
	create kind = iota
	revoke
	list
)

// input is what a caller asked of one app.
type input struct {
	kind kind
	app  string
	name string // of a token to create
	id   string // of a token to revoke
}

// output is the answer to a call.
type output struct {
	// unknown says that the outcome is unknown: the call may even take effect later.
	unknown bool
	// refused says that the name was in use.
	refused bool
	id      string
	tokens  string // as in state
}

// state is the ACTIVE tokens of an app: name=id, in order of names. The id is ? when nobody answered the
// creation.
type state = string

func parse(s state) map[string]string {
	tokens := map[string]string{}
	for pair := range strings.SplitSeq(s, " ") {
		if name, id, ok := strings.Cut(pair, "="); ok {
			tokens[name] = id
		}
	}
	return tokens
}

func format(tokens map[string]string) state {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(tokens)) {
		pairs = append(pairs, name+"="+tokens[name])
	}
	return strings.Join(pairs, " ")
}

// with returns the state after one token was set, or removed when the id is empty.
func with(s state, name, id string) state {
	tokens := parse(s)
	tokens[name] = id
	if id == "" {
		delete(tokens, name)
	}
	return format(tokens)
}

// model is the specification of the management calls: one after the other, each on the whole state (Herlihy
// and Wing, Linearizability, 1990).
var model = (&porcupine.NondeterministicModel{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byApp := map[string][]porcupine.Operation{}
		for _, operation := range history {
			app := operation.Input.(input).app
			byApp[app] = append(byApp[app], operation)
		}
		return slices.Collect(maps.Values(byApp))
	},
	Init: func() []any { return []any{state("")} },
	Step: func(s, in, out any) []any {
		var next []any
		for _, after := range step(s.(state), in.(input), out.(output)) {
			next = append(next, after)
		}
		return next
	},
	DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v -> %+v", in, out) },
}).ToModel()

// step returns the states that a call with this answer may lead to; none when the answer is impossible.
func step(s state, in input, out output) []state {
	tokens := parse(s)
	switch in.kind {
	case create:
		_, taken := tokens[in.name]
		switch {
		case out.unknown && taken:
			return []state{s}
		case out.unknown:
			return []state{s, with(s, in.name, "?")}
		case out.refused != taken:
			return nil
		case taken:
			return []state{s}
		}
		return []state{with(s, in.name, out.id)}
	case revoke:
		for name, id := range tokens {
			if id != in.id && id != "?" {
				continue
			}
			if id == in.id && !out.unknown {
				return []state{with(s, name, "")}
			}
			if id == in.id {
				return []state{s, with(s, name, "")}
			}
		}
		return []state{s} // it was revoked before, which is allowed
	}
	if out.unknown {
		return []state{s}
	}
	seen := parse(out.tokens)
	if len(seen) != len(tokens) {
		return nil
	}
	for name, id := range tokens {
		if got, there := seen[name]; !there || id != "?" && got != id {
			return nil
		}
	}
	return []state{out.tokens}
}
