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
	"github.com/countersign/countersign/services/internal/settings"
)

// globals are the flags that every command has, and what follows from them.
type globals struct {
	authority, validator client.Address
	adminKeyFile         string
	security             client.Security
	timeout              *time.Duration
	output               outputForm
	// receiptFollows says that the answer's document stays open for a receipt; open, that it is.
	receiptFollows, open bool
}

func newGlobals(flags *pflag.FlagSet) *globals {
	g := &globals{authority: "localhost:7070", validator: "localhost:7071", output: table}
	flags.Var(&g.authority, "authority", "address of the authority")
	flags.Var(&g.validator, "validator", "address of the validator")
	flags.StringVar(&g.adminKeyFile, "admin-key-file", "", "`file` that holds the admin key")
	flags.BoolVar(&g.security.TLS, "tls", false, "encrypt also on loopback; elsewhere it is the default")
	flags.StringVar(&g.security.CAFile, "tls-ca-file", "", "PEM `file` of the authorities to check the server's certificate against (implies --tls)")
	flags.BoolVar(&g.security.Plaintext, "plaintext", false, "do not encrypt, wherever the server is; admin keys and secrets can be read on the way")
	g.timeout = settings.Duration(flags, "timeout", 10*time.Second, time.Millisecond, time.Hour, "how long a call may take, waiting for a receipt aside; store commands but init take as long as they need unless it is given")
	flags.VarP(&g.output, "output", "o", "form of the answer: table or json")
	return g
}

// outputForm is a flag for the form of answers.
type outputForm string

const (
	table  outputForm = "table"
	inJSON outputForm = "json"
)

// Type is how the help text calls the value.
func (*outputForm) Type() string { return "form" }

// String returns the form.
func (o *outputForm) String() string { return string(*o) }

// Set takes a form.
func (o *outputForm) Set(text string) error {
	if form := outputForm(text); form == table || form == inJSON {
		*o = form
		return nil
	}
	return errors.New("want table or json")
}

// manage lets a command call the authority.
func (g *globals) manage(cmd *cobra.Command, call func(context.Context, countersignv1.AuthorityServiceClient) error) error {
	return g.callAuthority(cmd, *g.timeout, func(ctx context.Context, connection grpc.ClientConnInterface) error {
		return call(ctx, countersignv1.NewAuthorityServiceClient(connection))
	})
}

func (g *globals) callAuthority(cmd *cobra.Command, timeout time.Duration, call func(context.Context, grpc.ClientConnInterface) error) error {
	key, err := client.FindKey(g.adminKeyFile, g.authority)
	if err != nil {
		return err
	}
	to := client.Target{Role: client.Authority, Address: g.authority, Security: g.security, Key: key, Timeout: timeout}
	return connect(cmd, to, func(ctx context.Context, connection *grpc.ClientConn) error {
		return aboutKey(call(ctx, connection), key)
	})
}

// connect lets a command talk to a server. An interrupt cancels the call, so that the command can clean up
// and say what is known; a second one ends the process.
func connect(cmd *cobra.Command, to client.Target, talk func(context.Context, *grpc.ClientConn) error) error {
	connection, err := client.Dial(to)
	if errors.Is(err, client.ErrContradiction) {
		return misuse("--tls and --plaintext contradict each other")
	}
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, stop := grpcserver.SignalContext(cmd.Context())
	defer stop()
	return talk(ctx, connection)
}

// answer writes a response in the form that was asked for.
func (g *globals) answer(cmd *cobra.Command, response proto.Message, people func(io.Writer) error) error {
	switch {
	case g.output != inJSON:
		return people(cmd.OutOrStdout())
	case g.receiptFollows:
		g.open = true
		return show.OpenMessage(cmd.OutOrStdout(), response)
	}
	return show.Message(cmd.OutOrStdout(), response)
}

// endAnswer adds the receipt that was waited for to what answer has written; nil when there is none. In
// JSON it is a field of the same document, which was left open until now.
func (g *globals) endAnswer(cmd *cobra.Command, receipt *countersignv1.Receipt) error {
	switch {
	case g.open:
		g.open = false
		return show.CloseMessage(cmd.OutOrStdout(), "receipt", receipt)
	case g.output == inJSON || receipt == nil:
		return nil
	}
	fmt.Fprintln(cmd.OutOrStdout())
	return show.Receipt(cmd.OutOrStdout(), receipt)
}

// answerValue does the same for what is no response of a server.
func (g *globals) answerValue(cmd *cobra.Command, value any, people func(io.Writer) error) error {
	if g.output == inJSON {
		return show.Value(cmd.OutOrStdout(), value)
	}
	return people(cmd.OutOrStdout())
}
