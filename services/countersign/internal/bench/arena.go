package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/services/countersign/internal/bench/process"
	"github.com/countersign/countersign/services/countersign/internal/bench/serve"
	"github.com/countersign/countersign/services/countersign/internal/embedded"
	"github.com/countersign/countersign/services/internal/bulkstore"
)

const (
	// revokedEvery is how often an app has a revoked token.
	revokedEvery = 8
	// logLength is how many links of each partition are written; a validator loads documents.
	logLength = 100
	// loadPatience is how long a validator may take to load everything.
	loadPatience = 10 * time.Minute
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
	store    *bulkstore.Store

	writer      *process.Child // nil when there is none
	contestants []*contestant
}

// newArena makes a store, and starts what competes over it. It must be closed, also after an error.
func newArena(ctx context.Context, o Options, p place) (a *arena, err error) {
	a = &arena{options: o, place: p, ring: keyring.Generate()}
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
	return a, a.startServers(ctx)
}

func (a *arena) ringFile() string { return filepath.Join(a.folder, "keyring.json") }

func (a *arena) startRedis(ctx context.Context) (err error) {
	if !process.HasRedis() {
		if a.embedded, err = embedded.Start(); err == nil {
			a.url = a.embedded.URL
		}
		return err
	}
	if a.redis, err = process.NewRedis(ctx, a.folder, a.place.others); err == nil {
		a.url = a.redis.URL
	}
	return err
}

// fill writes the tokens.
func (a *arena) fill(ctx context.Context) error {
	client, err := redisfeed.Open(a.url, redisfeed.Options{})
	if err != nil {
		return err
	}
	defer client.Close()
	fmt.Fprintf(a.options.Progress, "Writing %d tokens, %d an app\n", a.options.Tokens, a.options.TokensPerApp)
	if a.store, err = bulkstore.Fill(ctx, client, a.ring, bulkstore.Contents{
		Apps: max(a.options.Tokens/a.options.TokensPerApp, 1), TokensPerApp: a.options.TokensPerApp,
		Enforced: policy.ScopesOf(1), RevokedEvery: revokedEvery, LogLength: logLength, Samples: deckSize,
	}); err != nil {
		return err
	}
	if a.embedded != nil {
		return nil
	}
	return a.fillLookups(ctx, client)
}

// fillLookups writes what the leg that asks Redis reads, for the apps that are asked about.
func (a *arena) fillLookups(ctx context.Context, client *redisfeed.Client) error {
	const batch = 200
	for start := 0; start < len(a.store.Samples); start += batch {
		some := a.store.Samples[start:min(start+batch, len(a.store.Samples))]
		read := client.Pipeline()
		raws := make([]interface{ Bytes() ([]byte, error) }, len(some))
		for i, sample := range some {
			raws[i] = read.HGet(ctx, record.KeysOf(a.store.Codec.PartitionOf(sample.AppID)).Policies, sample.AppID)
		}
		if _, err := read.Exec(ctx); err != nil {
			return err
		}
		write := client.Pipeline()
		for i, sample := range some {
			raw, err := raws[i].Bytes()
			if err != nil {
				return err
			}
			document, err := a.store.Codec.OpenDocument(sample.AppID, raw)
			if err != nil {
				return err
			}
			lean, err := serve.LookupPolicy(document)
			if err != nil {
				return err
			}
			write.Set(ctx, serve.LookupKey(sample.AppID), lean, 0)
		}
		if _, err := write.Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

// startServers starts the servers of the legs, and the writer of changes.
func (a *arena) startServers(ctx context.Context) error {
	asking, err := newDeck(a.store.Samples, a.options.Mix, a.options.Seed)
	if err != nil {
		return err
	}
	empty, err := emptyDeck()
	if err != nil {
		return err
	}
	for _, l := range a.chosen() {
		c := &contestant{leg: l, deck: empty}
		if l.asks {
			c.deck = asking
		}
		fmt.Fprintf(a.options.Progress, "Starting: %s\n", l.title)
		if err := a.start(ctx, c); err != nil {
			return fmt.Errorf("%s: %w", l.title, err)
		}
	}
	if a.options.ChangesPerSecond == 0 {
		return nil
	}
	a.writer, err = a.newChild(process.Start{CPUs: a.place.others}, serve.Config{Role: serve.Writer, ChangesPerSecond: a.options.ChangesPerSecond})
	if err != nil {
		return err
	}
	var begun serve.State
	return a.writer.Ask(struct{}{}, &begun)
}

// newChild starts a child and tells it what to be.
func (a *arena) newChild(s process.Start, c serve.Config) (*process.Child, error) {
	c.RedisURL, c.RingFile, c.Embedded = a.url, a.ringFile(), a.embedded != nil
	s.Args, s.Output = []string{"bench", "serve"}, os.Stderr
	child, err := process.New(s)
	if err != nil {
		return nil, err
	}
	var begun serve.State
	if err = child.Ask(c, &begun); err == nil && begun.Error != "" {
		err = errors.New(begun.Error)
	}
	if err != nil {
		child.Stop()
		return nil, err
	}
	return child, nil
}

// start starts the server of a contestant and waits until it serves.
func (a *arena) start(ctx context.Context, c *contestant) (err error) {
	c.child, err = a.newChild(
		process.Start{Env: c.environment(memoryBytes()), CPUs: a.place.servers},
		serve.Config{Role: c.role, StreamWorkers: c.workers},
	)
	if err != nil {
		return err
	}
	a.contestants = append(a.contestants, c)
	state, err := c.state()
	if err != nil {
		return err
	}
	c.address = state.Address
	if c.role == serve.Validator {
		return awaitServing(ctx, c.address)
	}
	return nil
}

// awaitServing returns when a validator has loaded the store.
func awaitServing(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, loadPatience)
	defer cancel()
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	watch, err := healthpb.NewHealthClient(connection).Watch(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	for {
		answer, err := watch.Recv()
		if err != nil || answer.GetStatus() == healthpb.HealthCheckResponse_SERVING {
			return err
		}
	}
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
	if a.writer != nil {
		a.writer.Stop()
	}
	for _, c := range a.contestants {
		c.child.Stop()
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
