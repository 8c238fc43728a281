package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/countersign/countersign/services/countersign/internal/client"
)

func healthCommand(g *globals) *cobra.Command {
	request := &healthpb.HealthCheckRequest{}
	cmd := &cobra.Command{
		Use:   "health ADDRESS",
		Short: "Ask a server whether it is serving, as the health check of a container does",
		Long: `Ask a server whether it is serving, as the health check of a container does. Exit codes: 0 it is,
1 it is not.

The command sends no secret, so it uses plain text unless --tls or --tls-ca-file is given.`,
		Example: `  countersign health localhost:7070
  countersign health localhost:7071 --service countersign.v1.ValidatorService`,
		Args: oneAddress,
	}
	cmd.Flags().StringVar(&request.Service, "service", "", "full `name` of one gRPC service (default the server as a whole)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		to := client.Target{Role: "server", Address: client.Address(args[0]), Security: g.security, Timeout: *g.timeout}
		if !to.Security.TLS && to.Security.CAFile == "" {
			to.Security.Plaintext = true
		}
		return connect(cmd, to, func(ctx context.Context, connection *grpc.ClientConn) error {
			response, err := healthpb.NewHealthClient(connection).Check(ctx, request)
			if err != nil {
				return err
			}
			if response.GetStatus() != healthpb.HealthCheckResponse_SERVING {
				return fmt.Errorf("%s is %s", to.Address, response.GetStatus())
			}
			return g.answer(cmd, response, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, response.GetStatus())
				return err
			})
		})
	}
	return cmd
}

func oneAddress(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want one address, such as localhost:7070")
	}
	var address client.Address
	return address.Set(args[0])
}
