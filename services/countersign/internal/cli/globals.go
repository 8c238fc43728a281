package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/grpcserver"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/client"
	"github.com/countersign/countersign/services/countersign/internal/show"
	"github.com/countersign/countersign/services/internal/cmdline"
	"github.com/countersign/countersign/services/internal/settings"
)

// globals holds the flags that every command has, and state derived from them.
type globals struct {
	authority, validator client.Address
	adminKeyFile         string
	security             client.Security
	timeout              *time.Duration
	output               cmdline.Format
	// receiptFollows says that the answer's JSON document must stay open for a receipt; open says that it is
	// open.
	receiptFollows, open bool
}

func newGlobals(flags *pflag.FlagSet) *globals {
	g := &globals{authority: "localhost:7070", validator: "localhost:7071", output: cmdline.Table}
	flags.Var(&g.authority, "authority", "address of the authority")
	flags.Var(&g.validator, "validator", "address of the validator")
	flags.StringVar(&g.adminKeyFile, "admin-key-file", "", "`file` that holds the admin key")
	flags.BoolVar(&g.security.TLS, "tls", false, "use TLS on loopback too; elsewhere it is the default")
	flags.StringVar(&g.security.CAFile, "tls-ca-file", "",
		"PEM `file` of the certificate authorities for the server's certificate (implies --tls)")
	flags.BoolVar(&g.security.Plaintext, "plaintext", false,
		"use no TLS, wherever the server is; others on the network can read admin keys and secrets")
	g.timeout = settings.Duration(flags, "timeout", 10*time.Second, time.Millisecond, time.Hour,
		"limit of a call, without the wait for a receipt; store commands except init have no limit unless it is given")
	flags.VarP(&g.output, "output", "o", "format of the output: table or json")
	return g
}

// manage runs a call to the authority.
func (g *globals) manage(cmd *cobra.Command, call func(context.Context, countersignv1.AuthorityServiceClient) error) error {
	return g.callAuthority(cmd, *g.timeout, func(ctx context.Context, connection grpc.ClientConnInterface) error {
		return call(ctx, countersignv1.NewAuthorityServiceClient(connection))
	})
}

func (g *globals) callAuthority(cmd *cobra.Command, timeout time.Duration,
	call func(context.Context, grpc.ClientConnInterface) error,
) error {
	key, err := client.FindKey(g.adminKeyFile, g.authority)
	if err != nil {
		return err
	}
	to := client.Target{Role: client.Authority, Address: g.authority, Security: g.security, Key: key, Timeout: timeout}
	return connect(cmd, to, func(ctx context.Context, connection *grpc.ClientConn) error {
		return aboutKey(call(ctx, connection), key)
	})
}

// connect runs talk over a connection to a server. An interrupt cancels the call, so that the command can
// clean up and report what is known. A second interrupt ends the process.
func connect(cmd *cobra.Command, to client.Target, talk func(context.Context, *grpc.ClientConn) error) error {
	connection, err := client.Dial(to)
	if errors.Is(err, client.ErrContradiction) {
		return cmdline.Misuse("--tls and --plaintext contradict each other")
	}
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, stop := grpcserver.SignalContext(cmd.Context())
	defer stop()
	return talk(ctx, connection)
}

// answer writes a response in the requested format.
func (g *globals) answer(cmd *cobra.Command, response proto.Message, people func(io.Writer) error) error {
	switch {
	case g.output != cmdline.JSON:
		return people(cmd.OutOrStdout())
	case g.receiptFollows:
		g.open = true
		return show.OpenMessage(cmd.OutOrStdout(), response)
	}
	return show.Message(cmd.OutOrStdout(), response)
}

// endAnswer adds the receipt to the output of answer; nil when there is none. In JSON the receipt is a field
// of the same document, which answer left open.
func (g *globals) endAnswer(cmd *cobra.Command, receipt *countersignv1.Receipt) error {
	switch {
	case g.open:
		g.open = false
		return show.CloseMessage(cmd.OutOrStdout(), "receipt", receipt)
	case g.output == cmdline.JSON || receipt == nil:
		return nil
	}
	fmt.Fprintln(cmd.OutOrStdout())
	return show.Receipt(cmd.OutOrStdout(), receipt)
}

// answerValue works like answer, for a value that is no server response.
func (g *globals) answerValue(cmd *cobra.Command, value any, people func(io.Writer) error) error {
	if g.output == cmdline.JSON {
		return show.Value(cmd.OutOrStdout(), value)
	}
	return people(cmd.OutOrStdout())
}
