// Package cluster runs a whole Countersign for a test: a real Redis, an authority and validators, in the
// process of the test, on free ports of the loopback interface. It ends with the test. This package is not
// part of the public API and may change in any release.
package cluster

import (
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/deploy/redisacl"
	"github.com/countersign/countersign/pkg/grpcserver"
	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/services/internal/adminkeys"
	"github.com/countersign/countersign/services/store"
	validator "github.com/countersign/countersign/services/validator/server"
)

// startTimeout bounds how long the start may take. A busy machine with the race detector is slow.
const startTimeout = 30 * time.Second

// anyPort lets the kernel choose: nobody else can take a port between the choice and its use.
const anyPort = "127.0.0.1:0"

// Options choose what Start starts.
type Options struct {
	// Validators is the number of validators.
	Validators int
	// Authorities is the number of authorities; 0 means one.
	Authorities int
	// Report makes the validators report to the authorities, in turn, under the names validator-1,
	// validator-2 and so on.
	Report bool
	// TLS secures the gRPC servers; empty means plain text.
	TLS grpcserver.TLS
	// Log receives the logs of all servers, at level debug; nil discards them. It must be safe for concurrent
	// use.
	Log io.Writer
	// RedisArgs are arguments of redis-server, in addition to those of redistest.Start.
	RedisArgs []string
	// VerifyInterval is the interval of background verification in the authorities; 0 turns it off.
	VerifyInterval time.Duration
	// ReloadInterval is how often the servers read their files again; 0 means never.
	ReloadInterval time.Duration
	// Account has the rights of the validators' account, as rules of ACL SETUSER; empty means
	// ValidatorAccount.
	Account string
}

// The rights of the validators' and the authorities' account, as in deploy/redisacl.
var (
	ValidatorAccount = redisacl.Rules(redisacl.Validator)
	AuthorityAccount = redisacl.Rules(redisacl.Authority)
)

// Cluster is a running Countersign.
type Cluster struct {
	// Authority is the first of Authorities. These and Validators are host:port of the gRPC servers.
	Authority               string
	Authorities, Validators []string
	// AdminKey, ViewerKey and FleetKey are admin keys of the authorities, named admin, viewer and validators.
	AdminKey, ViewerKey, FleetKey secret.Secret
	// AdminKeyFile, ViewerKeyFile and FleetKeyFile hold these keys. AdminKeysFile is the file that the
	// authorities read.
	AdminKeyFile, ViewerKeyFile, FleetKeyFile, AdminKeysFile string
	// Redis is the server of the store, with the accounts of deploy/redisacl. RedisURL is its URL for an
	// account with all rights, OperatorURL the one for `countersign store`.
	Redis                 *redistest.Server
	RedisURL, OperatorURL string
	// Ring signs the store; RingFile holds it.
	Ring     *keyring.Ring
	RingFile string

	// AuthorityProcesses and ValidatorProcesses are the servers of Authorities and Validators.
	AuthorityProcesses, ValidatorProcesses []*Process

	options                    Options
	log                        *slog.Logger
	authorityURL, validatorURL string
}

// Start starts a cluster, and returns when all of it serves.
func Start(t testing.TB, options Options) *Cluster {
	t.Helper()
	folder := t.TempDir()
	c := &Cluster{
		AdminKeyFile: filepath.Join(folder, "admin-key"), ViewerKeyFile: filepath.Join(folder, "viewer-key"),
		FleetKeyFile: filepath.Join(folder, "fleet-key"), AdminKeysFile: filepath.Join(folder, "admin-keys.json"),
		RingFile: filepath.Join(folder, "keyring.json"),
		Redis:    redistest.StartWithAccounts(t, options.RedisArgs...), Ring: keyring.Generate(),
	}
	c.RedisURL, c.OperatorURL = c.Redis.URL(), c.Redis.URLFor(redisacl.Operator)
	check.NoError(t, c.Ring.Create(c.RingFile))
	c.AdminKey = c.addKey(t, "admin", adminkeys.Admin, c.AdminKeyFile)
	c.ViewerKey = c.addKey(t, "viewer", adminkeys.Viewer, c.ViewerKeyFile)
	c.FleetKey = c.addKey(t, "validators", adminkeys.Validator, c.FleetKeyFile)
	if options.Log == nil {
		options.Log = io.Discard
	}
	c.options = options
	c.log = slog.New(slog.NewTextHandler(options.Log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	c.initStore(t)
	c.authorityURL, c.validatorURL = c.Redis.URLFor(redisacl.Authority), c.Redis.URLFor(redisacl.Validator)
	if options.Account != "" {
		c.account(t, redisacl.Validator, options.Account)
	}
	for range max(options.Authorities, 1) {
		p := c.StartAuthority(t, anyPort)
		c.AuthorityProcesses, c.Authorities = append(c.AuthorityProcesses, p), append(c.Authorities, p.Address)
	}
	c.Authority = c.Authorities[0]
	for i := range options.Validators {
		p := c.StartValidator(t, func(config *validator.Config) {
			if options.Report {
				config.Fleet = c.Fleet(fmt.Sprintf("validator-%d", i+1), c.Authorities[i%len(c.Authorities)])
			}
		})
		c.ValidatorProcesses, c.Validators = append(c.ValidatorProcesses, p), append(c.Validators, p.Address)
	}
	c.awaitServing(t, options.TLS)
	if options.Report {
		c.awaitFleet(t)
	}
	return c
}

func (c *Cluster) addKey(t testing.TB, name string, role adminkeys.Role, file string) secret.Secret {
	t.Helper()
	key, err := adminkeys.Add(c.AdminKeysFile, name, role)
	check.NoError(t, err)
	check.NoError(t, adminkeys.WritePrivate(file, []byte(key.Reveal()+"\n")))
	return key
}

func (c *Cluster) initStore(t testing.TB) {
	t.Helper()
	client, err := redisfeed.Open(c.OperatorURL, redisfeed.Options{})
	check.NoError(t, err)
	defer client.Close()
	_, _, err = store.Init(t.Context(), client, c.Ring, record.DefaultPartitions)
	check.NoError(t, err)
}

// account changes the rights of an account of Redis, until Redis restarts.
func (c *Cluster) account(t testing.TB, user, rights string) {
	t.Helper()
	client, err := redisfeed.Open(c.RedisURL, redisfeed.Options{})
	check.NoError(t, err)
	defer client.Close()
	command := []any{"ACL", "SETUSER", user, "reset", "on", ">" + user}
	for _, rule := range strings.Fields(rights) {
		command = append(command, rule)
	}
	check.NoError(t, client.Do(t.Context(), command...).Err())
}
