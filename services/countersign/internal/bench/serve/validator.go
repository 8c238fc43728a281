package serve

import (
	"github.com/countersign/countersign/pkg/grpcserver"
	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/services/internal/daemon"
	validator "github.com/countersign/countersign/services/validator/server"
)

// validatorServer is the product's, with everything that it has in production but an authority to report to.
type validatorServer struct{ *validator.Server }

func newValidator(c Config) (server, error) {
	ring, err := keyring.Load(c.RingFile)
	if err != nil {
		return nil, err
	}
	s, err := validator.New(validator.Config{Config: daemon.Config{
		GRPC: grpcserver.Config{Listen: "127.0.0.1:0"}, HTTP: grpcserver.HTTPConfig{Listen: "127.0.0.1:0"},
		RedisURL: c.RedisURL, Ring: ring, Log: logger(),
	}})
	if err != nil {
		return nil, err
	}
	return validatorServer{s}, nil
}

func (s validatorServer) state(to *State) { to.Address = s.Addr().String() }
