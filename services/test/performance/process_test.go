package performance

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/testport"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// binaryFolder has the binary once it is built. TestMain removes it.
var binaryFolder string

// validatorBinary builds the production binary once for all tests, without the race detector, and returns its
// path.
var validatorBinary = sync.OnceValues(func() (path string, err error) {
	if binaryFolder, err = os.MkdirTemp("", "performance"); err != nil {
		return "", err
	}
	path = filepath.Join(binaryFolder, "validator")
	build := exec.Command("go", "build", "-trimpath", "-o", path, "../../validator")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, output)
	}
	return path, nil
})

// process is a validator in a process of its own, with a client.
type process struct {
	countersignv1.ValidatorServiceClient
	t       testing.TB
	health  healthpb.HealthClient
	page    string // base URL of the HTTP server
	started time.Time
	cmd     *exec.Cmd
	ended   chan struct{}
	stop    sync.Once
}

// startProcess starts a validator, which ends with the test at the latest.
func startProcess(t testing.TB, binary string, arguments ...string) *process {
	t.Helper()
	listen, page := fmt.Sprintf("127.0.0.1:%d", testport.Free(t)), fmt.Sprintf("127.0.0.1:%d", testport.Free(t))
	p := &process{
		t: t, page: "http://" + page, ended: make(chan struct{}),
		cmd: exec.Command(binary, append(arguments, "--listen="+listen, "--http-listen="+page)...),
	}
	output := &output{}
	p.cmd.Stdout, p.cmd.Stderr = output, output
	connection := check.Dial(t, listen, retryQuickly)
	p.ValidatorServiceClient, p.health = countersignv1.NewValidatorServiceClient(connection),
		healthpb.NewHealthClient(connection)
	p.started = time.Now()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // ProcessState has the exit code
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.end()
		if t.Failed() {
			t.Logf("output of the validator at %s:\n%s", listen, output)
		}
	})
	return p
}

// end stops the process with SIGTERM, and fails the test if it had ended before.
func (p *process) end() {
	p.stop.Do(func() {
		if !p.running() {
			p.t.Errorf("a validator ended by itself: %v", p.cmd.ProcessState)
			return
		}
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		<-p.ended
		if !p.cmd.ProcessState.Success() {
			p.t.Errorf("a validator ended with %v", p.cmd.ProcessState)
		}
	})
}

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// awaitServing returns when the process is ready, with the time since its start.
func (p *process) awaitServing() time.Duration {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), loadPatience)
	defer cancel()
	watch := check.Must(p.health.Watch(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true)))(p.t)
	for check.Must(watch.Recv())(p.t).GetStatus() != healthpb.HealthCheckResponse_SERVING {
	}
	return time.Since(p.started)
}

// loadPatience is how long a validator may take to load everything.
const loadPatience = 30 * time.Minute

// ready reports whether both servers of the process are ready for calls.
func (p *process) ready(ctx context.Context) bool {
	answer, err := p.health.Check(ctx, &healthpb.HealthCheckRequest{})
	return err == nil && answer.GetStatus() == healthpb.HealthCheckResponse_SERVING && p.probe(ctx, "/readyz") == http.StatusOK
}

// pages fetches pages of processes, on a new connection each time.
var pages = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}

// probe returns the status code of a page; 0 without an answer.
func (p *process) probe(ctx context.Context, path string) int {
	status, _ := p.get(ctx, path)
	return status
}

func (p *process) get(ctx context.Context, path string) (status int, body []byte) {
	request := check.Must(http.NewRequestWithContext(ctx, http.MethodGet, p.page+path, nil))(p.t)
	response, err := pages.Do(request)
	if err != nil {
		return 0, nil
	}
	defer response.Body.Close()
	body, _ = io.ReadAll(response.Body)
	return response.StatusCode, body
}

// metric returns the value of a metric without labels.
func (p *process) metric(name string) float64 {
	p.t.Helper()
	_, body := p.get(p.t.Context(), "/metrics")
	for lines := bufio.NewScanner(bytes.NewReader(body)); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return check.Must(strconv.ParseFloat(text, 64))(p.t)
		}
	}
	p.t.Errorf("no metric %s", name)
	return 0
}

// cpu returns the CPU time of the process.
func (p *process) cpu() time.Duration {
	return seconds(p.metric("process_cpu_seconds_total"))
}

// output holds the latest output of a process.
type output struct {
	mu   sync.Mutex
	text []byte
}

const outputLimit = 1 << 20

func (o *output) Write(data []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = append(o.text, data...)
	o.text = o.text[max(len(o.text)-outputLimit, 0):]
	return len(data), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.text)
}
