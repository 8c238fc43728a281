package client_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/countersign/countersign/pkg/client"
	"github.com/countersign/countersign/pkg/grpcclient"
	"github.com/countersign/countersign/pkg/testkit/testcert"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// serveTCP runs a validator on loopback until the test ends, and returns its port.
func serveTCP(t *testing.T, f *fake, options ...grpc.ServerOption) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, healthy := grpc.NewServer(options...), health.NewServer()
	countersignv1.RegisterValidatorServiceServer(server, f)
	healthpb.RegisterHealthServer(server, healthy)
	healthy.SetServingStatus(countersignv1.ValidatorService_ServiceDesc.ServiceName, healthpb.HealthCheckResponse_SERVING)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		<-served
	})
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}

// Dial encrypts connections as Security says. It checks that each validator's certificate is for the address
// of this validator.
func TestDialSecurity(t *testing.T) {
	authority, err := testcert.New()
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := authority.Server(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := testcert.New()
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	file := func(name string, pem []byte) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, pem, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ours, others := file("ca.pem", authority.PEM), file("other.pem", stranger.PEM)
	encrypted := grpc.Creds(certificate)
	first, second := serveTCP(t, &fake{}, encrypted), serveTCP(t, &fake{}, encrypted)
	plain := serveTCP(t, &fake{})
	for name, tt := range map[string]struct {
		addresses []string
		security  grpcclient.Security
		refused   string
	}{
		"several":        {[]string{"127.0.0.1:" + first, "localhost:" + second}, grpcclient.Security{CAFile: ours}, ""},
		"one, looked up": {[]string{"dns:///localhost:" + first}, grpcclient.Security{CAFile: ours}, ""},
		"another authority": {
			[]string{"127.0.0.1:" + first, "localhost:" + second}, grpcclient.Security{CAFile: others}, "unknown authority",
		},
		"another name":           {[]string{"127.0.0.2:" + first}, grpcclient.Security{CAFile: ours}, "127.0.0.2"},
		"plain text on loopback": {[]string{"localhost:" + plain}, grpcclient.Security{}, ""},
		"several in plain text":  {[]string{"localhost:" + plain, "127.0.0.1:" + plain}, grpcclient.Security{}, ""},
		"TLS to a plain one": {
			[]string{"127.0.0.1:" + plain},
			grpcclient.Security{CAFile: ours},
			"first record does not look like a TLS handshake",
		},
		"plain text where TLS is": {[]string{"127.0.0.1:" + first}, grpcclient.Security{}, "error reading server preface"},
	} {
		t.Run(name, func(t *testing.T) {
			connection, err := client.Dial(tt.addresses, client.DialOptions{Security: tt.security})
			if err != nil {
				t.Fatal(err)
			}
			defer connection.Close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // connecting may take long
			defer cancel()
			answer, err := client.New(connection).Authorize(ctx, request("x"))
			switch {
			case tt.refused == "" && (err != nil || !answer.Allow):
				t.Errorf("answered %+v, %v", answer, err)
			case tt.refused != "" && (err == nil || !strings.Contains(err.Error(), tt.refused)):
				t.Errorf("answered %+v, %v; want an error with %q", answer, err, tt.refused)
			}
		})
	}
}

// behindProxy is an environment variable. If it is set, this test binary runs with a proxy in its
// environment. The test needs a new process, because a process reads the proxy settings only once.
const behindProxy = "COUNTERSIGN_TEST_BEHIND_PROXY"

// A proxy in the environment is not used, because it would see every secret.
func TestNoProxy(t *testing.T) {
	if os.Getenv(behindProxy) != "" {
		// An IP address needs no DNS, and would go through the proxy.
		for _, addresses := range [][]string{{"nobody..here:7071"}, {"nobody..here:7071", "nobody..there:7071"}} {
			connection, err := client.Dial(addresses, client.DialOptions{Security: grpcclient.Security{Plaintext: true}})
			if err != nil {
				t.Fatal(err)
			}
			defer connection.Close()
			if err := ask(t.Context(), t, client.New(connection), "x"); err == nil {
				t.Error("got an answer, but no validator is there")
			}
		}
		return
	}
	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var used atomic.Int64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			connection, err := proxy.Accept()
			if err != nil {
				return
			}
			used.Add(1)
			_ = connection.Close()
		}
	}()
	at := "http://" + proxy.Addr().String()
	child := exec.Command(os.Args[0], "-test.run=^TestNoProxy$", "-test.v")
	child.Env = append(
		os.Environ(), behindProxy+"=1", "HTTPS_PROXY="+at, "https_proxy="+at, "HTTP_PROXY="+at, "http_proxy="+at, "NO_PROXY=",
		"no_proxy=",
	)
	out, err := child.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestNoProxy") {
		t.Errorf("%v: %s", err, out)
	}
	_ = proxy.Close()
	<-ended
	if n := used.Load(); n > 0 {
		t.Errorf("the proxy was used %d times", n)
	}
}
