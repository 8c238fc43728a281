package serve

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// fleet is several validators in one process. Each follows the store and reports like a validator with a
// process of its own, but gets no calls.
type fleet []server

func newFleet(c Config) (server, error) {
	var f fleet
	for n := range c.Validators {
		one := c
		one.ID = fmt.Sprintf("%s-%03d", c.ID, n)
		s, err := newValidator(one)
		if err != nil {
			return nil, err
		}
		f = append(f, s)
	}
	return f, nil
}

// Run implements server.
func (f fleet) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, s := range f {
		group.Go(func() error { return s.Run(ctx) })
	}
	return group.Wait()
}

func (f fleet) state(to *State) {
	for _, s := range f {
		var one State
		s.state(&one)
		to.Addresses = append(to.Addresses, one.Address)
	}
}
