package serve

import (
	"context"
	"net"

	"github.com/countersign/countersign/pkg/grpcclient"
	"github.com/countersign/countersign/pkg/grpcserver"
	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/secret"
	engine "github.com/countersign/countersign/pkg/validator"
	authority "github.com/countersign/countersign/services/authority/server"
	"github.com/countersign/countersign/services/internal/daemon"
	"github.com/countersign/countersign/services/internal/gcbudget"
	"github.com/countersign/countersign/services/store"
	validator "github.com/countersign/countersign/services/validator/server"
)

// product is a service of the product, with everything that it has in production.
type product struct {
	service interface {
		Run(ctx context.Context) error
		Addr() net.Addr
		HTTPAddr() net.Addr
	}
}

// Run implements server.
func (p product) Run(ctx context.Context) error { return p.service.Run(ctx) }

func (p product) state(to *State) {
	to.Address, to.HTTP = p.service.Addr().String(), p.service.HTTPAddr().String()
}

func newValidator(c Config) (server, error) {
	gcbudget.Keep()
	config, err := productConfig(c)
	if err != nil {
		return nil, err
	}
	bound := validator.DefaultMaxInFlight
	if c.MaxInFlight > 0 {
		bound = c.MaxInFlight
	}
	s, err := validator.New(validator.Config{Config: config, MaxInFlight: bound, Uncounted: c.Uncounted, Fleet: engine.Fleet{
		Authority: grpcclient.Address(c.Authority), Security: grpcclient.Security{Plaintext: true},
		Key: secret.New(c.FleetKey), ID: c.ID,
	}})
	return product{s}, err
}

func newAuthority(c Config) (server, error) {
	config, err := productConfig(c)
	if err != nil {
		return nil, err
	}
	s, err := authority.New(authority.Config{
		Config: config, AdminKeysFile: c.AdminKeysFile, Store: store.Options{Embedded: c.Embedded},
	})
	return product{s}, err
}

func productConfig(c Config) (daemon.Config, error) {
	ring, err := keyring.Load(c.RingFile)
	return daemon.Config{
		GRPC: grpcserver.Config{Listen: "127.0.0.1:0"}, HTTP: grpcserver.HTTPConfig{Listen: "127.0.0.1:0"},
		RedisURL: c.RedisURL, Ring: ring, Log: c.log,
	}, err
}
