package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/services/countersign/internal/bench/process"
	"github.com/countersign/countersign/services/countersign/internal/bench/serve"
	"github.com/countersign/countersign/services/internal/load"
	"github.com/countersign/countersign/services/store/bulk"
	"github.com/countersign/countersign/services/store/embedded"
)

// arena is where legs compete: a store, and the servers over it.
type arena struct {
	options Options
	place   place
	folder  string
	ring    *keyring.Ring

	redis    *process.Redis  // nil when there is none
	embedded *embedded.Redis // in its place
	url      string
	store    *bulk.Store

	// fleetKey is what validators report with to the authority, at fleetAddress.
	fleetKey     secret.Secret
	fleetAddress string

	// helpers are the authority, the other validators, and the writer of changes, which is nil when there
	// is nothing for it to do.
	helpers     []*process.Child
	writer      *process.Child
	contestants []*contestant
	// decks are the questions, by what they carry; the empty servers have their own.
	decks map[Mix]*load.Deck
	empty *load.Deck
}

// newArena makes a store, and starts what competes over it. It must be closed, also after an error.
func newArena(ctx context.Context, o Options, p place) (a *arena, err error) {
	a = &arena{options: o, place: p, ring: keyring.Generate(), decks: map[Mix]*load.Deck{}}
	if a.folder, err = os.MkdirTemp("", "countersign-bench-"); err != nil {
		return a, err
	}
	if err = a.ring.Create(a.ringFile()); err != nil {
		return a, err
	}
	if err = a.startRedis(ctx); err != nil {
		return a, err
	}
	if err = a.fill(ctx); err != nil {
		return a, err
	}
	if err = a.startAuthority(ctx); err != nil {
		return a, fmt.Errorf("authority: %w", err)
	}
	return a, a.startServers(ctx)
}

func (a *arena) ringFile() string { return filepath.Join(a.folder, "keyring.json") }

// startServers starts the servers of the legs, and the writer of changes.
func (a *arena) startServers(ctx context.Context) error {
	for _, l := range a.chosen() {
		c := &contestant{leg: l}
		fmt.Fprintf(a.options.Progress, "Starting: %s\n", l.title)
		if err := a.start(ctx, c); err != nil {
			return fmt.Errorf("%s: %w", l.title, err)
		}
	}
	if err := a.startFleet(ctx); err != nil {
		return err
	}
	if a.options.ChangesPerSecond == 0 && a.options.ResyncEvery == 0 {
		return nil
	}
	var err error
	a.writer, _, err = a.newChild(process.Start{CPUs: a.place.others}, serve.Config{Role: serve.Writer, ChangesPerSecond: a.options.ChangesPerSecond})
	if err == nil {
		a.helpers = append(a.helpers, a.writer)
	}
	return err
}

// deck returns the questions for a leg.
func (a *arena) deck(l leg, m Mix) (deck *load.Deck, err error) {
	if !l.asks {
		if a.empty == nil {
			a.empty, err = emptyDeck()
		}
		return a.empty, err
	}
	if a.decks[m] == nil {
		if deck, err = newDeck(a.store.Samples, m, a.options.Seed); err != nil {
			return nil, err
		}
		a.decks[m] = deck
	}
	return a.decks[m], nil
}

// chosen returns the legs that compete.
func (a *arena) chosen() (chosen []leg) {
	for _, l := range legs {
		if l.redis && a.embedded != nil {
			continue
		}
		if len(a.options.Legs) == 0 || slices.Contains(a.options.Legs, l.name) {
			chosen = append(chosen, l)
		}
	}
	return chosen
}

// close ends everything that was started, and only that.
func (a *arena) close() {
	for _, c := range a.contestants {
		c.child.Stop()
	}
	for _, child := range a.helpers {
		child.Stop()
	}
	if a.redis != nil {
		a.redis.Kill()
	}
	if a.embedded != nil {
		a.embedded.Close()
	}
	if a.folder != "" {
		_ = os.RemoveAll(a.folder)
	}
}
