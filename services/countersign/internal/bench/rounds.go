package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
)

// condition is what calls are like while servers have their turns.
type condition struct {
	// name is that of a step of growth; empty when there is one condition only.
	name                  string
	mix                   Mix
	connections, inFlight int
}

// condition returns that of the options.
func (o Options) condition() condition {
	return condition{mix: o.Mix, connections: o.Connections, inFlight: o.InFlight}
}

// rounds lets every contestant have its turn under every condition in every round, each time in another
// order, so that none always comes after the same one. It returns the turns by condition.
func (a *arena) rounds(ctx context.Context, under []condition) ([][]*Turn, error) {
	random := rand.New(rand.NewPCG(a.options.Seed, 2))
	turns := make([][]*Turn, len(under))
	for round := 1; round <= a.options.Rounds; round++ {
		fmt.Fprintf(a.options.Progress, "Round %d of %d\n", round, a.options.Rounds)
		for _, i := range random.Perm(len(a.contestants) * len(under)) {
			c, u := a.contestants[i%len(a.contestants)], i/len(a.contestants)
			t, err := a.turn(ctx, round, c, under[u])
			if err != nil {
				return nil, fmt.Errorf("%s, round %d%s: %w", c.title, round, under[u].suffix(), err)
			}
			turns[u] = append(turns[u], t)
		}
	}
	return turns, nil
}

func (c condition) suffix() string {
	if c.name == "" {
		return ""
	}
	return ", " + c.name
}
