package cluster

import (
	"context"
	"net"
	"sync"
	"testing"

	"github.com/countersign/countersign/pkg/grpcclient"
	"github.com/countersign/countersign/pkg/grpcserver"
	"github.com/countersign/countersign/pkg/reload"
	"github.com/countersign/countersign/pkg/testkit/check"
	engine "github.com/countersign/countersign/pkg/validator"
	authority "github.com/countersign/countersign/services/authority/server"
	"github.com/countersign/countersign/services/internal/daemon"
	validator "github.com/countersign/countersign/services/validator/server"
)

// Process is one server of a cluster. It ends with the test.
type Process struct {
	// Address is host:port of the gRPC server, HTTPAddress that of the server for metrics and health.
	Address, HTTPAddress string

	cancel context.CancelFunc
	once   sync.Once
	ended  chan error
	t      testing.TB
}

// server is an authority or a validator.
type server interface {
	Run(ctx context.Context) error
	Addr() net.Addr
	HTTPAddr() net.Addr
}

func start(t testing.TB, s server) *Process {
	// The context of a test ends before its cleanups, which still need the servers.
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	p := &Process{
		Address: s.Addr().String(), HTTPAddress: s.HTTPAddr().String(), cancel: cancel,
		ended: make(chan error, 1), t: t,
	}
	go func() { p.ended <- s.Run(ctx) }()
	t.Cleanup(p.Stop)
	return p
}

// Stop shuts the server down like SIGTERM does, and returns when it has ended. It may be called more than
// once.
func (p *Process) Stop() {
	p.once.Do(func() {
		p.cancel()
		if err := <-p.ended; err != nil {
			p.t.Errorf("cluster: %v", err)
		}
	})
}

func (c *Cluster) config(t testing.TB, redisURL, listen string) daemon.Config {
	var files *reload.Files
	if c.options.ReloadInterval > 0 {
		files = reload.New(c.options.ReloadInterval, c.log)
		t.Cleanup(daemon.KeepReading(files, c.log, nil))
	}
	return daemon.Config{
		GRPC: grpcserver.Config{Listen: listen, TLS: c.options.TLS, Files: files}, HTTP: grpcserver.HTTPConfig{Listen: anyPort},
		RedisURL: redisURL, Ring: c.Ring, Log: c.log, Files: files, DroppedLines: func() uint64 { return 0 },
	}
}

// StartAuthority starts one more authority, at an address. It does not wait until the authority serves.
func (c *Cluster) StartAuthority(t testing.TB, listen string) *Process {
	t.Helper()
	return c.StartAuthorityWith(t, listen, func(*authority.Config) {})
}

// StartAuthorityWith is StartAuthority with a changed configuration.
func (c *Cluster) StartAuthorityWith(t testing.TB, listen string, change func(*authority.Config)) *Process {
	t.Helper()
	config := authority.Config{
		Config: c.config(t, c.authorityURL, listen), AdminKeysFile: c.AdminKeysFile,
		VerifyInterval: c.options.VerifyInterval,
	}
	change(&config)
	owner, err := authority.New(config)
	check.NoError(t, err)
	return start(t, owner)
}

// StartValidator starts one more validator, with a changed configuration. It does not wait until the
// validator serves.
func (c *Cluster) StartValidator(t testing.TB, change func(*validator.Config)) *Process {
	t.Helper()
	config := validator.Config{Config: c.config(t, c.validatorURL, anyPort)}
	change(&config)
	v, err := validator.New(config)
	check.NoError(t, err)
	return start(t, v)
}

// Fleet returns the settings with which a validator reports to an authority under a name.
func (c *Cluster) Fleet(id, authority string) engine.Fleet {
	return engine.Fleet{
		Authority: grpcclient.Address(authority), Security: grpcclient.Security{CAFile: c.options.TLS.CertFile},
		Key: c.FleetKey, ID: id,
	}
}
