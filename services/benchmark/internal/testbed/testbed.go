package testbed

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/services/benchmark/internal/process"
	"github.com/countersign/countersign/services/benchmark/internal/serve"
	"github.com/countersign/countersign/services/internal/load"
	"github.com/countersign/countersign/services/store/bulk"
	"github.com/countersign/countersign/services/store/embedded"
)

// Testbed is a store with the servers that use it. It is not safe for concurrent use.
type Testbed struct {
	options    Options
	processors Processors
	folder     string
	ring       *keyring.Ring

	redis    *process.Redis  // nil without a redis-server on the PATH
	embedded *embedded.Redis // used when redis is nil; otherwise nil
	url      string
	store    *bulk.Store

	// Validators report to the authority at fleetAddress with the key fleetKey.
	fleetKey     secret.Secret
	fleetAddress string

	// helpers are the authority, the validators that are not measured, and the writer. The writer changes
	// policies and makes validators resync; it is nil when the options ask for neither.
	helpers []*process.Child
	writer  *process.Child
	servers []*Server
	// decks are the questions by mix. emptyDeck is the question for empty servers. Both are made on first
	// use.
	decks     map[Mix]*load.Deck
	emptyDeck *load.Deck
}

// New fills a store and starts the servers. The caller must Close the testbed.
func New(ctx context.Context, o Options, p Processors) (*Testbed, error) {
	t := &Testbed{options: o, processors: p, ring: keyring.Generate(), decks: map[Mix]*load.Deck{}}
	if err := t.startAll(ctx); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

func (t *Testbed) startAll(ctx context.Context) (err error) {
	if t.folder, err = os.MkdirTemp("", "countersign-bench-"); err != nil {
		return err
	}
	if err = t.ring.Create(t.ringFile()); err != nil {
		return err
	}
	if err = t.startRedis(ctx); err != nil {
		return err
	}
	if err = t.fill(ctx); err != nil {
		return err
	}
	if err = t.startAuthority(ctx); err != nil {
		return fmt.Errorf("authority: %w", err)
	}
	return t.startServers(ctx)
}

func (t *Testbed) ringFile() string { return filepath.Join(t.folder, "keyring.json") }

// startServers starts the servers of the legs, the other validators, and the writer.
func (t *Testbed) startServers(ctx context.Context) error {
	for _, l := range t.chosen() {
		s := &Server{leg: l}
		if err := t.announce(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", l.Title, err)
		}
	}
	if err := t.startFleet(ctx); err != nil {
		return err
	}
	if t.options.ChangesPerSecond == 0 && t.options.ResyncEvery == 0 {
		return nil
	}
	var err error
	t.writer, _, err = t.newChild(process.Start{CPUs: t.processors.others}, serve.Config{
		Role: serve.Writer, ChangesPerSecond: t.options.ChangesPerSecond,
	})
	if err == nil {
		t.helpers = append(t.helpers, t.writer)
	}
	return err
}

// Servers returns the servers in the order in which they were started: first one for each leg.
func (t *Testbed) Servers() []*Server { return t.servers }

// Embedded reports whether the testbed uses the embedded store, because no redis-server is on the PATH.
func (t *Testbed) Embedded() bool { return t.embedded != nil }

// RedisURL returns the address of the store, with its password.
func (t *Testbed) RedisURL() string { return t.url }

// Deck returns the questions of a mix. For an empty server it returns the empty message whatever the mix is.
func (t *Testbed) Deck(s *Server, m Mix) (deck *load.Deck, err error) {
	if !s.asks {
		if t.emptyDeck == nil {
			t.emptyDeck, err = newEmptyDeck()
		}
		return t.emptyDeck, err
	}
	if t.decks[m] == nil {
		if deck, err = newDeck(t.store.Samples, m, t.options.Seed); err != nil {
			return nil, err
		}
		t.decks[m] = deck
	}
	return t.decks[m], nil
}

// chosen returns the legs that the options name and that the store allows.
func (t *Testbed) chosen() (chosen []leg) {
	for _, l := range legs {
		if l.redis && t.embedded != nil {
			continue
		}
		if len(t.options.Legs) == 0 && !l.uncounted || slices.Contains(t.options.Legs, l.Name) {
			chosen = append(chosen, l)
		}
	}
	return chosen
}

// Close ends all processes that the testbed started, and removes its files.
func (t *Testbed) Close() {
	for _, s := range t.servers {
		s.child.Stop()
	}
	for _, child := range t.helpers {
		child.Stop()
	}
	if t.redis != nil {
		t.redis.Kill()
	}
	if t.embedded != nil {
		t.embedded.Close()
	}
	if t.folder != "" {
		_ = os.RemoveAll(t.folder)
	}
}
