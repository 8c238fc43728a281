package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/countersign/countersign/pkg/grpcserver"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	authority "github.com/countersign/countersign/services/authority/server"
	"github.com/countersign/countersign/services/internal/cmdline/cmdlinetest"
	"github.com/countersign/countersign/services/internal/floorfile"
	"github.com/countersign/countersign/services/test/cluster"
	validator "github.com/countersign/countersign/services/validator/server"
)

// TestOperations tries every runbook of docs/operations.md. Each script is one runbook, with its own Redis,
// authority and two validators. The first validator has a snapshot file.
func TestOperations(t *testing.T) {
	page := readFile(t, "../../docs/operations.md")
	scripts, err := filepath.Glob("testdata/operations/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("%d scripts, %v", len(scripts), err)
	}
	for _, script := range scripts {
		name := strings.TrimSuffix(filepath.Base(script), ".txtar")
		// A runbook names its script, so that nobody changes one without the other.
		if !strings.Contains(page, "operations/"+name+".txtar") {
			t.Errorf("docs/operations.md has no runbook that %s tries", script)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var tls grpcserver.TLS
			if name == "certificate" {
				tls = certificate(t)
			}
			s := startSite(t, tls)
			p := params(s.setup)
			p.Files = []string{script}
			for command, run := range map[string]func(*testscript.TestScript, bool, []string){
				"metric": s.metric, "redis": s.redisCommand, "authority": s.authority, "validator": s.validator, "link": s.link,
				"clock":   s.clock,
				"floored": s.floored,
			} {
				p.Cmds[command] = run
			}
			testscript.Run(t, p)
		})
	}
}

// TestRunbooksAreTried: every runbook of docs/operations.md names a script that exists.
func TestRunbooksAreTried(t *testing.T) {
	page := readFile(t, "../../docs/operations.md")
	_, runbooks, _ := strings.Cut(page, "\n## Runbooks\n")
	runbooks, _, _ = strings.Cut(runbooks, "\n## ")
	for _, runbook := range strings.Split(runbooks, "\n### ")[1:] {
		if title, text, _ := strings.Cut(runbook, "\n"); !strings.HasPrefix(strings.TrimSpace(text), "*Tried by operations/") {
			t.Errorf("%q does not say by which script it is tried", title)
		}
	}
	for _, named := range regexp.MustCompile(`operations/(\w+\.txtar)`).FindAllStringSubmatch(page, -1) {
		if _, err := os.Stat(filepath.Join("testdata/operations", named[1])); err != nil {
			t.Error(err)
		}
	}
}

// TestEveryMetricIsDocumented: docs/operations.md documents every metric of an authority and of a validator
// with all options, and the metrics follow the conventions of Prometheus.
func TestEveryMetricIsDocumented(t *testing.T) {
	page := readFile(t, "../../docs/operations.md")
	s := startSite(t, certificate(t))
	s.startValidator("validator-1", 0)
	check.Eventually(t, "the validator is ready", func() error { return s.value("validator-1", "countersign_ready", "1") })
	for _, name := range []string{"authority", "validator-1"} {
		text := s.get(t, name, "/metrics")
		problems, err := promlint.New(strings.NewReader(text)).Lint()
		if err != nil {
			t.Error(err)
		}
		for _, p := range problems {
			if strings.HasPrefix(p.Metric, "countersign_") {
				t.Errorf("%s: %s: %s", name, p.Metric, p.Text)
			}
		}
		for _, metric := range regexp.MustCompile(`(?m)^# HELP (countersign_\w+)`).FindAllStringSubmatch(text, -1) {
			if !strings.Contains(page, "`"+metric[1]) {
				t.Errorf("docs/operations.md does not say what to do about %s of an %s", metric[1], name)
			}
		}
	}
	check.Eventually(t, "the data is fresh", func() error {
		if got := s.get(t, "validator-1", "/readyz"); !regexp.MustCompile(`^ok\nFRESH, [\d.]+m?s old\n$`).MatchString(got) {
			return fmt.Errorf("/readyz says %q", got)
		}
		return nil
	})
	s.Redis.Stop()
	check.Eventually(t, "the data is stale, and the validator ready", func() error {
		if got := s.get(t, "validator-1", "/readyz"); !strings.HasPrefix(got, "ok\nSTALE, ") {
			return fmt.Errorf("/readyz says %q", got)
		}
		return nil
	})
}

// get returns a page of a process's HTTP server.
func (s *site) get(t *testing.T, name, path string) string {
	t.Helper()
	response, err := http.Get("http://" + s.processes[name].HTTPAddress + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// site is a Countersign on which a script tries a runbook.
type site struct {
	*cluster.Cluster
	t *testing.T
	// tls are the certificate files of all gRPC servers; empty: they use plain text.
	tls grpcserver.TLS
	// reports is the proxy between the second validator and the authority.
	reports   *redistest.Proxy
	processes map[string]*cluster.Process
	replica   *redistest.Server
	snapshot  string
	// ahead is how far each validator's clock is ahead.
	ahead map[string]*atomic.Int64
}

func startSite(t *testing.T, tls grpcserver.TLS) *site {
	t.Helper()
	options := cluster.Options{VerifyInterval: 50 * time.Millisecond, ReloadInterval: 50 * time.Millisecond, TLS: tls}
	s := &site{
		Cluster: cluster.Start(t, options), t: t, tls: tls,
		processes: map[string]*cluster.Process{}, ahead: map[string]*atomic.Int64{},
	}
	s.processes["authority"] = s.AuthorityProcesses[0]
	s.reports = redistest.NewProxy(t, s.Authority)
	s.snapshot = filepath.Join(t.TempDir(), "policies.snapshot")
	return s
}

// setup sets the environment of a script.
func (s *site) setup(env *testscript.Env) {
	env.Setenv("REDIS_URL", s.RedisURL)
	env.Setenv("COUNTERSIGN_REDIS_URL", s.OperatorURL)
	env.Setenv("COUNTERSIGN_KEYRING_FILE", s.RingFile)
	env.Setenv("COUNTERSIGN_ADMIN_KEY_FILE", s.AdminKeyFile)
	env.Setenv("ADMIN_KEYS_FILE", s.AdminKeysFile)
	if s.tls.CertFile != "" {
		renewed := certificate(s.t)
		env.Setenv("CERT_FILE", s.tls.CertFile)
		env.Setenv("KEY_FILE", s.tls.KeyFile)
		env.Setenv("RENEWED_CERT_FILE", renewed.CertFile)
		env.Setenv("RENEWED_KEY_FILE", renewed.KeyFile)
	}
	env.Setenv("SNAPSHOT", s.snapshot)
	env.Setenv("COUNTERSIGN_AUTHORITY", s.Authority)
	for _, name := range []string{"validator-1", "validator-2"} {
		p := s.startValidator(name, 0)
		env.Setenv(variable(name), p.Address)
		check.Eventually(s.t, name+" is ready", func() error { return s.value(name, "countersign_ready", "1") })
	}
}

func variable(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "-", "_")) }

func (s *site) startValidator(name string, quorum int) *cluster.Process {
	ahead := new(atomic.Int64)
	s.ahead[name] = ahead
	p := s.StartValidator(s.t, func(c *validator.Config) {
		c.WallClock = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		at := s.Authority
		if name == "validator-2" {
			at = s.reports.Address()
		}
		if name == "validator-1" {
			c.Snapshot.Path, c.Snapshot.Interval = s.snapshot, time.Second
		}
		c.Fleet, c.WriteQuorum = s.Fleet(name, at), quorum
	})
	s.processes[name] = p
	return p
}

// value returns nil when a metric of a process has a value: a number, or >N.
func (s *site) value(name, metric, want string) error {
	p := s.processes[name]
	if p == nil {
		return fmt.Errorf("there is no %s", name)
	}
	response, err := http.Get("http://" + p.HTTPAddress + "/metrics")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		value, found := strings.CutPrefix(strings.TrimSpace(line), metric+" ")
		if !found {
			continue
		}
		number, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return err
		}
		if above, is := strings.CutPrefix(want, ">"); is {
			if least, err := strconv.ParseFloat(above, 64); err == nil && number > least {
				return nil
			}
		} else if value == want {
			return nil
		}
		return fmt.Errorf("%s of %s is %s, want %s", metric, name, value, want)
	}
	return fmt.Errorf("%s has no %s", name, metric)
}

// metric PROCESS METRIC VALUE waits until a metric has a value: a number, or >N.
func (s *site) metric(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: metric process metric value")
	}
	check.Eventually(ts, "metric", func() error { return s.value(args[0], args[1], args[2]) })
}

// redis stop|start, redis save FILE, redis load FILE, redis replica start|stop, redis cli COMMAND: actions on
// Redis from outside. "load" restores a dump: it stops Redis, replaces the file, and starts Redis.
func (s *site) redisCommand(ts *testscript.TestScript, _ bool, args []string) {
	dump := filepath.Join(s.Redis.Dir(), "dump.rdb")
	switch strings.Join(args[:min(len(args), 1)], " ") {
	case "stop":
		s.Redis.Stop()
	case "start":
		s.Redis.Restart()
	case "save":
		ts.Check(ts.Exec("redis-cli", "-u", s.RedisURL, "SAVE"))
		data, err := os.ReadFile(dump)
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs(args[1]), data, 0o600))
	case "load":
		data, err := os.ReadFile(ts.MkAbs(args[1]))
		ts.Check(err)
		s.Redis.Stop()
		ts.Check(os.WriteFile(dump, data, 0o600))
		s.Redis.Restart()
	case "cli":
		ts.Check(ts.Exec("redis-cli", append([]string{"-u", s.RedisURL}, args[1:]...)...))
	case "replica":
		if args[1] == "stop" {
			s.replica.Stop()
			return
		}
		host, port, _ := strings.Cut(s.Redis.Address(), ":")
		s.replica = redistest.StartWithAccounts(s.t, "--replicaof", host, port, "--repl-ping-replica-period", "1")
	default:
		ts.Fatalf("usage: redis stop|start|save|load|cli|replica")
	}
}

// authority stop, authority start [FLOOR-FILE].
func (s *site) authority(ts *testscript.TestScript, _ bool, args []string) {
	switch {
	case len(args) == 1 && args[0] == "stop":
		s.processes["authority"].Stop()
	case len(args) >= 1 && args[0] == "start":
		s.processes["authority"] = s.StartAuthorityWith(s.t, s.Authority, func(c *authority.Config) {
			if len(args) > 1 {
				c.FloorFile = ts.MkAbs(args[1])
			}
		})
	default:
		ts.Fatalf("usage: authority start [floor-file]|stop")
	}
}

// floored FILE waits until a floor file has the present positions of the store.
func (s *site) floored(ts *testscript.TestScript, _ bool, args []string) {
	client, err := redisfeed.Open(s.RedisURL, redisfeed.Options{})
	ts.Check(err)
	defer client.Close()
	meta, err := client.Meta(s.t.Context(), s.Ring)
	ts.Check(err)
	codec := record.NewCodec(s.Ring, meta)
	check.Eventually(ts, "floored", func() error {
		floor, err := floorfile.Read(ts.MkAbs(args[0]), s.Ring)
		if err != nil {
			return err
		}
		heads, err := redisfeed.New(client, meta.Partitions).Heads(s.t.Context())
		if err != nil {
			return err
		}
		for i := range heads {
			if head, err := codec.OpenHead(i, heads[i].Raw); err != nil || head.Cursor != floor.Cursors[i] {
				return fmt.Errorf("partition %d: the floor is %s, the head %s, %w", i, floor.Cursors[i], head.Cursor, err)
			}
		}
		return nil
	})
}

// validator start|stop NAME [WRITE-QUORUM].
func (s *site) validator(ts *testscript.TestScript, _ bool, args []string) {
	switch {
	case len(args) == 2 && args[0] == "stop":
		s.processes[args[1]].Stop()
	case len(args) >= 2 && args[0] == "start":
		quorum := 0
		if len(args) > 2 {
			var err error
			quorum, err = strconv.Atoi(args[2])
			ts.Check(err)
		}
		ts.Setenv(variable(args[1]), s.startValidator(args[1], quorum).Address)
	default:
		ts.Fatalf("usage: validator start|stop name")
	}
}

// clock VALIDATOR DURATION sets a validator's clock ahead.
func (s *site) clock(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: clock validator duration")
	}
	ahead, err := time.ParseDuration(args[1])
	ts.Check(err)
	s.ahead[args[0]].Store(int64(ahead))
}

// link cut|restore: the connection between the second validator and the authority.
func (s *site) link(ts *testscript.TestScript, _ bool, args []string) {
	switch strings.Join(args, " ") {
	case "cut":
		s.reports.Refuse()
	case "restore":
		s.reports.Restore()
	default:
		ts.Fatalf("usage: link cut|restore")
	}
}

// agree DECISION REASON FLAG... asks both validators until both give this decision and reason.
func agree(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: agree decision reason flag...")
	}
	for _, validator := range []string{ts.Getenv("VALIDATOR_1"), ts.Getenv("VALIDATOR_2")} {
		check.Eventually(ts, "agree", func() error {
			_ = ts.Exec("countersign", append([]string{"authorize", "--validator", validator}, args[2:]...)...)
			shown := regexp.MustCompile(`(?s)Decision +(\w+).*Reason +(\w+)`).FindStringSubmatch(ts.ReadFile("stdout"))
			if shown == nil || shown[1] != args[0] || shown[2] != args[1] {
				return fmt.Errorf("%s says %q, want %s %s", validator, shown, args[0], args[1])
			}
			return nil
		})
	}
}

// [!] until REGEXP PROGRAM ARGUMENT... runs a program until its output matches (with !: does not match),
// whatever its exit code.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: until regexp program argument...")
	}
	want, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	check.Eventually(ts, "until", func() error {
		_ = ts.Exec(args[1], args[2:]...)
		if out := ts.ReadFile("stdout"); want.MatchString(out) == neg {
			return fmt.Errorf("%s matches %q: %t", args[0], out, neg)
		}
		return nil
	})
}

// eventually CODE PROGRAM ARGUMENT... runs a program until it ends with the code.
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: eventually code program argument...")
	}
	check.Eventually(ts, "eventually", func() error {
		if got := cmdlinetest.ExitCode(ts, ts.Exec(args[1], args[2:]...)); strconv.Itoa(got) != args[0] {
			return fmt.Errorf("exit code %d, want %s", got, args[0])
		}
		return nil
	})
}
