package faults

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/countersign/countersign/pkg/grpcclient"
	"github.com/countersign/countersign/pkg/grpcserver"
	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/reload"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/testport"
	"github.com/countersign/countersign/pkg/validator"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	authorityserver "github.com/countersign/countersign/services/authority/server"
	"github.com/countersign/countersign/services/internal/daemon"
	validatorserver "github.com/countersign/countersign/services/validator/server"
)

// processEnv is an environment variable. If it is set, this test binary runs a service with the settings in
// it.
const processEnv = "COUNTERSIGN_FAULTS_PROCESS"

// processSettings are the settings of a service that runs in a process of its own.
type processSettings struct {
	// Listen is the address of the service's gRPC server.
	Listen             string
	RedisURL           string
	WriteQuorum        int
	RingFile, KeysFile string
	// CertFolder has its certificate and key. CAFile is the authority that signed all certificates.
	CertFolder, CAFile string
	// Validator has the settings that only a validator needs; nil for an authority.
	Validator *validatorSettings
}

type validatorSettings struct {
	MaxStaleness       [policy.MaxScope + 1]time.Duration
	Snapshot           validator.SnapshotFile
	ID, Authority, Key string
}

// runProcess is the main function of a process that runs a service.
func runProcess(raw string) error {
	var s processSettings
	if err := json.Unmarshal([]byte(raw), &s); err != nil {
		return err
	}
	ring, err := keyring.Load(s.RingFile)
	if err != nil {
		return err
	}
	// The Main of the services does this too (package daemon).
	hangUps := make(chan os.Signal, 1)
	signal.Notify(hangUps, syscall.SIGHUP)
	stderr := daemon.OpenStderr(os.Stderr)
	defer stderr.End()
	log := stderr.Logger(newLog)
	files := reload.New(reloadInterval, log)
	defer daemon.KeepReading(files, log, hangUps)()
	config := daemon.Config{
		GRPC: grpcserver.Config{Listen: s.Listen, Files: files, TLS: grpcserver.TLS{
			CertFile: filepath.Join(s.CertFolder, certName), KeyFile: filepath.Join(s.CertFolder, keyName),
		}},
		HTTP:     grpcserver.HTTPConfig{Listen: "127.0.0.1:0"},
		RedisURL: s.RedisURL, WriteQuorum: s.WriteQuorum, Ring: ring, Log: log, Files: files, DroppedLines: stderr.Dropped,
	}
	var service daemon.Runner
	if v := s.Validator; v != nil {
		service, err = validatorserver.New(validatorserver.Config{
			Config: config, MaxStaleness: v.MaxStaleness, Snapshot: v.Snapshot,
			Fleet: validator.Fleet{
				Authority: grpcclient.Address(v.Authority), Security: grpcclient.Security{CAFile: s.CAFile},
				Key: secret.New(v.Key), ID: v.ID,
			},
		})
	} else {
		service, err = authorityserver.New(authorityserver.Config{Config: config, AdminKeysFile: s.KeysFile})
	}
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return service.Run(ctx)
}

func newLog(file io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(file, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// process is a service that can be killed at any moment, and restarted.
type process struct {
	name       string
	settings   processSettings
	output     *os.File
	connection *grpc.ClientConn
	health     healthpb.HealthClient
	// lives counts its starts. started is the time of the latest, in nanoseconds since the Unix epoch.
	lives, started atomic.Int64
	// starting is locked while the process starts, and while its certificates change. firstExpires is the
	// expiry of the certificate that it was started with.
	starting     sync.Mutex
	certificates *certificates
	firstExpires time.Time

	mu  sync.Mutex
	cmd *exec.Cmd // nil while the process does not run
	log *logPipe
}

func newProcess(t testing.TB, name, folder string, settings processSettings, certificates *certificates) *process {
	settings.CertFolder = certificates.folder
	settings.Listen = fmt.Sprintf("127.0.0.1:%d", testport.Free(t))
	output, err := os.Create(filepath.Join(folder, name+".log"))
	check.NoError(t, err)
	// With a longer backoff, the test would measure how long its own client waits.
	connection, err := grpc.NewClient(settings.Listen,
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: certificates.by.Pool})),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}))
	check.NoError(t, err)
	p := &process{
		name: name, settings: settings, output: output, connection: connection,
		health: healthpb.NewHealthClient(connection), certificates: certificates,
	}
	t.Cleanup(func() { p.kill(); connection.Close(); output.Close() })
	check.NoError(t, p.start())
	return p
}

func (p *process) start() error {
	p.starting.Lock()
	defer p.starting.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	raw, err := json.Marshal(p.settings)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), processEnv+"="+string(raw))
	log, err := newLogPipe(p.output)
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = p.output, log.write
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		log.end()
		return err
	}
	p.lives.Add(1)
	p.started.Store(time.Now().UnixNano())
	p.cmd, p.log, p.firstExpires = cmd, log, p.certificates.now.Expires
	return nil
}

// kill ends the process without a warning. It returns false when the process does not run.
func (p *process) kill() bool {
	log := p.killed()
	if log == nil {
		return false
	}
	// The process must not be locked here: a fault that blocks its log asks whether it still runs.
	log.end()
	return true
}

// killed kills the process, and returns the log of the killed start. It returns nil when the process did not
// run.
func (p *process) killed() *logPipe {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return nil
	}
	_ = p.cmd.Process.Kill() // fails only when the process has ended
	_ = p.cmd.Wait()
	p.cmd = nil
	return p.log
}

// signal sends a signal to the process, if it runs.
func (p *process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(s) // fails only when the process has ended
	}
}

// serving reports whether the process serves requests.
func (p *process) serving(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	response, err := p.health.Check(ctx, &healthpb.HealthCheckRequest{})
	return err == nil && response.GetStatus() == healthpb.HealthCheckResponse_SERVING
}

// authority is an authority in a process of its own.
type authority struct {
	*process
	client countersignv1.AuthorityServiceClient
	// calls counts the changes that were sent to it.
	calls atomic.Int64
}

func newAuthority(t testing.TB, name, folder string, settings processSettings, certificates *certificates) *authority {
	p := newProcess(t, name, folder, settings, certificates)
	return &authority{process: p, client: countersignv1.NewAuthorityServiceClient(p.connection)}
}
