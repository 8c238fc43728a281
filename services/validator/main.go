// Command validator keeps every policy in memory and answers Authorize.
package main

import (
	"os"

	"github.com/countersign/countersign/services/internal/daemon"
	"github.com/countersign/countersign/services/validator/server"
)

func main() {
	os.Exit(daemon.Main(daemon.Service{
		Name:       "validator",
		Short:      "Keep every policy in memory and answer Authorize over gRPC",
		Listen:     ":7071",
		HTTPListen: ":7081",
		New: func(c daemon.Config) (daemon.Runner, error) {
			return server.New(c)
		},
	}))
}
