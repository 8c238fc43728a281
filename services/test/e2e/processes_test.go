package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/countersign/countersign/deploy/redisacl"
	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/pkg/testkit/testport"
	"github.com/countersign/countersign/services/internal/adminkeys"
	"github.com/countersign/countersign/services/store"
)

// patience bounds every wait. A busy machine with the race detector is slow.
const patience = 60 * time.Second

// processes is a Countersign as installed: each binary runs in its own process. It has two authorities, and
// writes debug logs.
type processes struct {
	redis       *redistest.Server
	client      *redisfeed.Client
	authorities []*process
	validators  []*process
	// keys are the admin keys by the names of their identities.
	keys map[string]string
}

// process is a running binary.
type process struct {
	name       string
	grpc, http string
	output     *buffer
	// transport secures connections to the process; nil means plain text.
	transport credentials.TransportCredentials

	started *os.Process
	killed  bool
}

// kill ends the process as a crash of its machine does.
func (p *process) kill(t *testing.T) {
	t.Helper()
	p.killed = true
	check.NoError(t, p.started.Kill())
}

// buffer holds the output of a process, and can be read while the process writes.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(data []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(data)
}

func (b *buffer) Bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.text.Bytes())
}

func startProcesses(t *testing.T) *processes {
	t.Helper()
	p := &processes{redis: redistest.StartWithAccounts(t), keys: map[string]string{}}
	folder, common := p.prepare(t)
	common = append(common, "--log-level=debug")
	for range 2 {
		p.authorities = append(p.authorities, startProcess(t, folder, "authority",
			append(slices.Clip(common), "--admin-keys-file="+filepath.Join(folder, keysFile),
				"--redis-url="+p.redis.URLFor(redisacl.Authority))...))
		p.validators = append(p.validators, startProcess(t, folder, "validator",
			append(slices.Clip(common), "--redis-url="+p.redis.URLFor(redisacl.Validator))...))
	}
	for _, process := range slices.Concat(p.authorities, p.validators) {
		process.awaitServing(t)
	}
	return p
}

// binariesFolder has the programs once they are built. TestMain removes it.
var binariesFolder string

// binaries builds the programs once for all tests, with the flags of make build, and returns their folder.
var binaries = sync.OnceValues(func() (folder string, err error) {
	if folder, err = os.MkdirTemp("", "e2e"); err != nil {
		return "", err
	}
	binariesFolder = folder
	build := exec.Command("go", "build", "-trimpath", "-o", folder, "../../authority", "../../validator")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return folder, fmt.Errorf("%w\n%s", err, output)
	}
	return folder, nil
})

// keysFile is the name of the admin keys file in the folder of prepare.
const keysFile = "keys.json"

// prepare creates the store and, in a folder, the files that the processes need. It returns the arguments
// that all processes get.
func (p *processes) prepare(t *testing.T) (folder string, arguments []string) {
	t.Helper()
	folder = t.TempDir()
	built := check.Must(binaries())(t)
	for _, name := range []string{"authority", "validator"} {
		check.NoError(t, os.Symlink(filepath.Join(built, name), filepath.Join(folder, name)))
	}
	p.client = check.Must(redisfeed.Open(p.redis.URL(), redisfeed.Options{}))(t)
	t.Cleanup(func() { p.client.Close() })

	ring, ringFile := keyring.Generate(), filepath.Join(folder, "ring.json")
	if err := ring.Create(ringFile); err != nil {
		t.Fatal(err)
	}
	for name, role := range map[string]adminkeys.Role{
		"ada": adminkeys.Admin, "grace": adminkeys.Admin,
		"vera": adminkeys.Viewer,
	} {
		p.keys[name] = check.Must(adminkeys.Add(filepath.Join(folder, keysFile), name, role))(t).Reveal()
	}
	if _, _, err := store.Init(t.Context(), p.client, ring, record.DefaultPartitions); err != nil {
		t.Fatal(err)
	}
	return folder, []string{"--keyring-file=" + ringFile}
}

func newProcess(t *testing.T, name string) *process {
	t.Helper()
	address := func() string { return fmt.Sprintf("127.0.0.1:%d", testport.Free(t)) }
	return &process{name: name, grpc: address(), http: address(), output: &buffer{}}
}

// arguments returns the given arguments, and the arguments with the addresses to listen on.
func (p *process) arguments(given []string) []string {
	return append(slices.Clip(given), "--listen="+p.grpc, "--http-listen="+p.http)
}

func startProcess(t *testing.T, folder, name string, arguments ...string) *process {
	t.Helper()
	p := newProcess(t, name)
	cmd := exec.Command(filepath.Join(folder, name), p.arguments(arguments)...)
	cmd.Env = append(os.Environ(), "GRPC_GO_LOG_SEVERITY_LEVEL=info", "GRPC_GO_LOG_VERBOSITY_LEVEL=99")
	cmd.Stdout, cmd.Stderr = p.output, p.output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.started = cmd.Process
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil && !p.killed {
			t.Errorf("%s exited with %v, want success", name, err)
		}
		if t.Failed() {
			t.Logf("output of %s:\n%s", name, p.output.Bytes())
		}
	})
	return p
}

func (p *process) awaitServing(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	watch := check.Must(healthpb.NewHealthClient(p.dial(t)).Watch(ctx, &healthpb.HealthCheckRequest{},
		grpc.WaitForReady(true)))(t)
	for {
		if check.Must(watch.Recv())(t).GetStatus() == healthpb.HealthCheckResponse_SERVING {
			return
		}
	}
}

func (p *process) dial(t *testing.T) *grpc.ClientConn {
	t.Helper()
	transport := p.transport
	if transport == nil {
		transport = insecure.NewCredentials()
	}
	return check.Dial(t, p.grpc, grpc.WithTransportCredentials(transport))
}

// page returns a page of the HTTP server.
func (p *process) page(t *testing.T, path string) []byte {
	t.Helper()
	request := check.Must(http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.http+path, nil))(t)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response := check.Must(client.Do(request))(t)
	defer response.Body.Close()
	return check.Must(io.ReadAll(response.Body))(t)
}
