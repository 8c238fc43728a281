// Package testcluster runs a whole Countersign for a test: a real Redis, an authority and validators, in the test's
// process on free ports of the loopback interface. It ends with the test.
package testcluster

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/pkg/grpcserver"
	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	authority "github.com/countersign/countersign/services/authority/server"
	"github.com/countersign/countersign/services/authority/store"
	"github.com/countersign/countersign/services/internal/adminkeys"
	"github.com/countersign/countersign/services/internal/daemon"
	validator "github.com/countersign/countersign/services/validator/server"
)

// startTimeout bounds how long it may take until everything serves; a busy machine with the race detector is slow.
const startTimeout = 30 * time.Second

// anyPort lets the kernel choose: nobody else can take a port between the choice and its use.
const anyPort = "127.0.0.1:0"

// Options say what to start.
type Options struct {
	// Validators is how many there are.
	Validators int
	// TLS is for the gRPC servers; empty is plain text.
	TLS grpcserver.TLS
	// Log is where the servers log to, at level debug; nil is nowhere. It must be safe for concurrent use.
	Log io.Writer
	// RedisArgs are arguments of the redis-server beside those of redistest.Start.
	RedisArgs []string
	// Account is what the account that the validators use may do, as rules of ACL SETUSER; empty is ValidatorAccount.
	Account string
}

// ValidatorAccount is what validators need of Redis, and all that the documentation tells to give them.
const ValidatorAccount = "resetkeys %R~cs:meta %R~cs:{*}:head %R~cs:{*}:policies %R~cs:{*}:log " +
	"resetchannels &cs:* -@all +get +hscan +xrange +subscribe +ping +auth +hello"

// AuthorityAccount is the same for authorities.
const AuthorityAccount = "resetkeys ~cs:* resetchannels &cs:* -@all +get +hget +hscan +xrange +subscribe +ping +auth +hello " +
	"+eval +type +exists +xinfo|stream +xadd +hset +set +publish"

// Cluster is a Countersign that serves.
type Cluster struct {
	// Authority and Validators are host:port of the gRPC servers.
	Authority  string
	Validators []string
	// AdminKey and ViewerKey are known to the authority, under the names admin and viewer.
	AdminKey, ViewerKey secret.Secret
	// AdminKeyFile and ViewerKeyFile hold the two, AdminKeysFile is what the authority has read.
	AdminKeyFile, ViewerKeyFile, AdminKeysFile string
	// Redis is the server of the store, RedisURL its URL.
	Redis    *redistest.Server
	RedisURL string
	// Ring signs the store; RingFile holds it.
	Ring     *keyring.Ring
	RingFile string
}

// Start starts a cluster and returns when all of it serves.
func Start(t testing.TB, options Options) *Cluster {
	t.Helper()
	folder := t.TempDir()
	c := &Cluster{
		AdminKeyFile: filepath.Join(folder, "admin-key"), ViewerKeyFile: filepath.Join(folder, "viewer-key"),
		AdminKeysFile: filepath.Join(folder, "admin-keys.json"), RingFile: filepath.Join(folder, "keyring.json"),
		Redis: redistest.Start(t, options.RedisArgs...), Ring: keyring.Generate(),
	}
	c.RedisURL = c.Redis.URL()
	check(t, c.Ring.Create(c.RingFile))
	c.AdminKey = c.addKey(t, "admin", adminkeys.Admin, c.AdminKeyFile)
	c.ViewerKey = c.addKey(t, "viewer", adminkeys.Viewer, c.ViewerKeyFile)
	if options.Account == "" {
		options.Account = ValidatorAccount
	}
	c.initStore(t)
	authorityURL, validatorURL := c.account(t, "authority", AuthorityAccount), c.account(t, "validator", options.Account)

	if options.Log == nil {
		options.Log = io.Discard
	}
	log := slog.New(slog.NewTextHandler(options.Log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	grpc := grpcserver.Config{Listen: anyPort, TLS: options.TLS}
	http := grpcserver.HTTPConfig{Listen: anyPort}
	config := daemon.Config{GRPC: grpc, HTTP: http, RedisURL: authorityURL, Ring: c.Ring, Log: log}
	owner, err := authority.New(authority.Config{Config: config, AdminKeysFile: c.AdminKeysFile})
	check(t, err)
	c.Authority = owner.Addr().String()
	servers := []func(context.Context) error{owner.Run}
	config.RedisURL = validatorURL
	for range options.Validators {
		v, err := validator.New(config)
		check(t, err)
		c.Validators = append(c.Validators, v.Addr().String())
		servers = append(servers, v.Run)
	}
	run(t, servers)
	c.awaitServing(t, options.TLS)
	return c
}

func (c *Cluster) addKey(t testing.TB, name string, role adminkeys.Role, file string) secret.Secret {
	t.Helper()
	key, err := adminkeys.Add(c.AdminKeysFile, name, role)
	check(t, err)
	check(t, adminkeys.WritePrivate(file, []byte(key.Reveal()+"\n")))
	return key
}

func (c *Cluster) initStore(t testing.TB) {
	t.Helper()
	client, err := redisfeed.Open(c.RedisURL)
	check(t, err)
	defer client.Close()
	_, _, err = store.Init(t.Context(), client, c.Ring, record.DefaultPartitions)
	check(t, err)
}

// account makes an account of the Redis with some rights, and returns its URL.
func (c *Cluster) account(t testing.TB, user, rights string) string {
	t.Helper()
	client, err := redisfeed.Open(c.RedisURL)
	check(t, err)
	defer client.Close()
	command := []any{"ACL", "SETUSER", user, "reset", "on", ">" + user}
	for _, rule := range strings.Fields(rights) {
		command = append(command, rule)
	}
	check(t, client.Do(t.Context(), command...).Err())
	return redistest.URL(c.Redis.Address(), user, user)
}

// run runs servers until the test ends, and fails it when one fails.
func run(t testing.TB, servers []func(context.Context) error) {
	// A test's own context ends before its cleanups; the servers serve them too.
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	group, ctx := errgroup.WithContext(ctx)
	for _, server := range servers {
		group.Go(func() error { return server(ctx) })
	}
	t.Cleanup(func() {
		cancel()
		if err := group.Wait(); err != nil {
			t.Errorf("testcluster: %v", err)
		}
	})
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("testcluster: %v", err)
	}
}
