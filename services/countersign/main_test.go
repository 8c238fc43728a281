package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/countersign/countersign/deploy/redisacl"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/services/internal/cmdline/cmdlinetest"
	"github.com/countersign/countersign/services/test/cluster"
)

func TestMain(m *testing.M) { cmdlinetest.Main(m, "countersign", main) }

// The scripts are the manual: commands with their output. They run against a real authority and two
// validators over a real Redis. Each script has its own apps.
func TestScripts(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Validators: 2, Report: true})
	lonely := cluster.Start(t, cluster.Options{})
	run(t, "testdata", func(env *testscript.Env) {
		// The folder of countersign, without redis-server.
		env.Setenv("LONELY_PATH", filepath.SplitList(env.Getenv("PATH"))[0])
		env.Setenv("COUNTERSIGN_AUTHORITY", c.Authority)
		env.Setenv("COUNTERSIGN_ADMIN_KEY_FILE", c.AdminKeyFile)
		env.Setenv("AUTHORITY_HTTP", c.AuthorityProcesses[0].HTTPAddress)
		env.Setenv("VALIDATOR_1", c.Validators[0])
		env.Setenv("VALIDATOR_2", c.Validators[1])
		env.Setenv("COUNTERSIGN_VALIDATOR", c.Validators[0])
		env.Setenv("ADMIN_KEY_FILE", c.AdminKeyFile)
		env.Setenv("VIEWER_KEY_FILE", c.ViewerKeyFile)
		env.Setenv("FLEET_KEY_FILE", c.FleetKeyFile)
		env.Setenv("LONELY_AUTHORITY", lonely.Authority)
		env.Setenv("LONELY_ADMIN_KEY_FILE", lonely.AdminKeyFile)
	})
}

// The command line over TLS, with a certificate that the system does not know.
func TestTLS(t *testing.T) {
	files := certificate(t)
	c := cluster.Start(t, cluster.Options{Validators: 1, TLS: files, Report: true})
	plain := cluster.Start(t, cluster.Options{Validators: 1})
	run(t, filepath.Join("testdata", "tls"), func(env *testscript.Env) {
		env.Setenv("COUNTERSIGN_AUTHORITY", c.Authority)
		env.Setenv("COUNTERSIGN_VALIDATOR", c.Validators[0])
		env.Setenv("COUNTERSIGN_ADMIN_KEY_FILE", c.AdminKeyFile)
		env.Setenv("CA_FILE", files.CertFile)
		env.Setenv("PLAIN_AUTHORITY", plain.Authority)
		env.Setenv("PLAIN_ADMIN_KEY_FILE", plain.AdminKeyFile)
	})
}

// Commands that prepare a store need only Redis and the operator's account. Each script has its own
// databases.
func TestProvisioning(t *testing.T) {
	redis := redistest.StartWithAccounts(t)
	t.Cleanup(func() { operatorsRights(t, redis) })
	run(t, filepath.Join("testdata", "provision"), func(env *testscript.Env) {
		env.Setenv("REDIS", "redis://operator:operator@"+redis.Address())
		env.Setenv("AUTHORITY_REDIS", "redis://authority:authority@"+redis.Address())
		env.Setenv("ADMIN_REDIS", "redis://admin:admin@"+redis.Address())
		env.Setenv("REDIS_ADDRESS", redis.Address())
	})
}

// operatorsRights checks that the operator's account allows no command that `countersign store` has not used.
func operatorsRights(t *testing.T, redis *redistest.Server) {
	// Used on a Cluster, for a partition that changes while it is read, and for apps, which the scripts do
	// not have.
	used := map[string]bool{"asking": true, "cluster|slots": true, "hmget": true, "hset": true}
	for line := range redis.Info("commandstats") {
		used[strings.TrimPrefix(line, "cmdstat_")] = true
	}
	for right := range strings.FieldsSeq(redisacl.Rules(redisacl.Operator)) {
		if command, given := strings.CutPrefix(right, "+"); given && !used[command] {
			t.Errorf("the operator's account may do %s, which no command of `countersign store` needs", command)
		}
	}
}

func run(t *testing.T, folder string, setup func(*testscript.Env)) {
	p := params(setup)
	p.Dir = folder
	testscript.Run(t, p)
}

func params(setup func(*testscript.Env)) testscript.Params {
	return testscript.Params{
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("TZ", "UTC")
			// With the race detector, each command would sleep for a second before it ends.
			env.Setenv("GORACE", "atexit_sleep_ms=0")
			setup(env)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": cmdlinetest.Exits, "eventually": eventually, "agree": agree, "until": until, "capture": capture,
			"decide": decide,
			"json":   cmdlinetest.JSON, "mode": mode,
		},
	}
}

// mode FILE PERMISSIONS compares the permissions of a file, in octal digits.
func mode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode file permissions")
	}
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := strconv.FormatUint(uint64(info.Mode().Perm()), 8); got != args[1] {
		ts.Fatalf("%s has permissions %s, want %s", args[0], got, args[1])
	}
}
