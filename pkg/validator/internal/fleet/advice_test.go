package fleet

import (
	"log/slog"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/countersign/countersign/pkg/grpcclient"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/testcert"
)

// A validator that cannot report logs advice when only one side uses TLS, and when the address is not an
// authority.
func TestAdvice(t *testing.T) {
	authority, err := testcert.New()
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := authority.Server(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		server   credentials.TransportCredentials
		security grpcclient.Security
		says     string
	}{
		"TLS to plain text": {
			insecure.NewCredentials(),
			grpcclient.Security{TLS: true},
			"the authority answers in plain text: give it a certificate",
		},
		"plain text to TLS":   {certificate, grpcclient.Security{}, "if the authority wants TLS, give --authority-tls"},
		"another gRPC server": {insecure.NewCredentials(), grpcclient.Security{}, "this is no address of an authority"},
	} {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			server := grpc.NewServer(grpc.Creds(tt.server))
			served := make(chan error, 1)
			go func() { served <- server.Serve(listener) }()
			t.Cleanup(func() { server.Stop(); <-served })
			var log lines
			start(t, &fakeAuthority{address: listener.Addr().String()}, func(c *Config) {
				c.Security, c.Log = tt.security, slog.New(slog.NewTextHandler(&log, nil))
			})
			check.Eventually(t, "the advice", func() error {
				if log.count(tt.says) == 0 {
					return errSilent
				}
				return nil
			})
		})
	}
}
