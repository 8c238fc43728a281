package dev

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// demoTimeout bounds the demonstration.
const demoTimeout = 20 * time.Second

// demo shows what Countersign does. It is an ordinary client.
type demo struct {
	app        string
	adminKey   secret.Secret
	authority  string
	validators []string

	connections []*grpc.ClientConn
	management  countersignv1.AuthorityServiceClient
	deciders    []countersignv1.ValidatorServiceClient
	// seen is the consistency token of the latest change. Every decision must include that change.
	seen string
	// minted is the secret of the token that stays active.
	minted secret.Secret
}

// call is one row of the demonstration.
type call struct {
	what  string
	token secret.Secret
	scope countersignv1.Scope
}

// run creates tokens, and shows the decisions of both validators.
func (d *demo) run(ctx context.Context, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+d.adminKey.Reveal())
	defer d.close()
	if err := d.connect(ctx); err != nil {
		return err
	}
	backend, _, err := d.create(ctx, "demo-backend", countersignv1.Scope_SCOPE_EVENTS, countersignv1.Scope_SCOPE_SESSIONS)
	if err != nil {
		return err
	}
	d.minted = backend
	leaked, leakedID, err := d.create(ctx, "demo-leaked", countersignv1.Scope_SCOPE_AD_REVENUE,
		countersignv1.Scope_SCOPE_EVENTS)
	if err != nil {
		return err
	}
	stranger := secret.Mint()
	events, adRevenue := countersignv1.Scope_SCOPE_EVENTS, countersignv1.Scope_SCOPE_AD_REVENUE

	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\nApp %s\tscope\tvalidator 1\tvalidator 2\n", d.app)
	steps := []struct {
		title  string
		change func() error
		calls  []call
	}{
		{"Enforcement off: everything is allowed, and the reason says what enforcement would find", nil, []call{
			{"no token", secret.Secret{}, events},
			{"the token's secret", backend, events},
		}},
		{"Enforced: EVENTS, AD_REVENUE", func() error { return d.enforce(ctx, events, adRevenue) }, []call{
			{"the token's secret", backend, events},
			{"no token", secret.Secret{}, events},
			{"an unknown secret", stranger, events},
			{"a mistyped secret", secret.New(backend.Reveal()[:20]), events},
			{"the token's secret", backend, adRevenue},
			{"a second token's secret", leaked, events},
		}},
		{"The second token leaked and was revoked", func() error { return d.revoke(ctx, leakedID) }, []call{
			{"the second token's secret", leaked, events},
			{"the token's secret", backend, events},
		}},
	}
	for _, step := range steps {
		if step.change != nil {
			if err := step.change(); err != nil {
				return err
			}
		}
		fmt.Fprintf(w, "\n%s\n", step.title)
		for _, c := range step.calls {
			if err := d.show(ctx, w, c); err != nil {
				return err
			}
		}
	}
	return w.Flush()
}

// connect opens the clients and waits until their servers serve.
func (d *demo) connect(ctx context.Context) error {
	for i, address := range append([]string{d.authority}, d.validators...) {
		connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		d.connections = append(d.connections, connection)
		if err := awaitServing(ctx, connection); err != nil {
			return fmt.Errorf("%s: %w", address, err)
		}
		if i == 0 {
			d.management = countersignv1.NewAuthorityServiceClient(connection)
		} else {
			d.deciders = append(d.deciders, countersignv1.NewValidatorServiceClient(connection))
		}
	}
	return nil
}

func (d *demo) close() {
	for _, connection := range d.connections {
		_ = connection.Close()
	}
}

// awaitServing returns when a server has loaded the store, some milliseconds after its start.
func awaitServing(ctx context.Context, connection *grpc.ClientConn) error {
	for {
		response, err := healthpb.NewHealthClient(connection).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
		if err != nil || response.GetStatus() == healthpb.HealthCheckResponse_SERVING {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (d *demo) create(ctx context.Context, name string, scopes ...countersignv1.Scope) (secret.Secret, string, error) {
	response, err := d.management.CreateToken(ctx, &countersignv1.CreateTokenRequest{AppId: d.app, Name: name, Scopes: scopes})
	d.seen = response.GetConsistencyToken()
	return secret.New(response.GetSecret()), response.GetToken().GetTokenId(), err
}

func (d *demo) enforce(ctx context.Context, scopes ...countersignv1.Scope) error {
	// The app is new, so no traffic shows that it is ready.
	response, err := d.management.SetEnforcement(ctx, &countersignv1.SetEnforcementRequest{
		AppId: d.app, Scopes: scopes, AllowRejections: true,
	})
	d.seen = response.GetConsistencyToken()
	return err
}

func (d *demo) revoke(ctx context.Context, id string) error {
	response, err := d.management.RevokeToken(ctx,
		&countersignv1.RevokeTokenRequest{AppId: d.app, TokenId: id, AllowLockout: true})
	d.seen = response.GetConsistencyToken()
	return err
}

func (d *demo) show(ctx context.Context, w io.Writer, c call) error {
	fmt.Fprintf(w, "  %s\t%s", c.what, short(c.scope.String(), "SCOPE_"))
	for _, decider := range d.deciders {
		response, err := decider.Authorize(ctx, &countersignv1.AuthorizeRequest{
			AppId: d.app, Token: c.token.Reveal(), Scope: c.scope, MinRevision: d.seen,
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "\t%s %s", short(response.GetDecision().String(), "DECISION_"),
			short(response.GetReason().String(), "REASON_"))
	}
	_, err := fmt.Fprintln(w)
	return err
}

func short(name, prefix string) string { return strings.TrimPrefix(name, prefix) }

// printNext prints the addresses, the keys, and commands to try next.
func (d *demo) printNext(out io.Writer, o options) {
	program := programName()
	flags := ""
	if o.authority != defaultAuthority {
		flags = " --authority " + d.authority + " --admin-key-file " + o.adminKeyFile
	}
	fmt.Fprintf(out, `
Running: authority %[1]s, validators %[2]s.
The data is in memory and is not kept. Ctrl-C stops everything.

Admin key, which the commands below read:    %[3]s
Secret of the token demo-backend:            %[10]s
The same secret in a file:                   %[4]s

Try next, in another terminal:
  %[5]s authorize --app %[6]s --scope events --secret-file %[4]s --validator %[7]s
  %[5]s authorize --app %[6]s --scope events --validator %[8]s
  %[5]s token list --app %[6]s%[9]s
  %[5]s token create --app %[6]s --name mine --scopes events --wait%[9]s
  %[5]s fleet list%[9]s
  %[5]s app get --app %[6]s%[9]s
Any gRPC client works too, for example:
  grpcurl -plaintext -d '{"app_id":"%[6]s","scope":"SCOPE_EVENTS","token":"..."}' %[7]s \
    countersign.v1.ValidatorService/Authorize
`, d.authority, strings.Join(d.validators, " and "), o.adminKeyFile, o.secretFile,
		program, d.app, d.validators[0], d.validators[1], flags, d.minted.Reveal())
}

// programName returns the command that runs this program again.
func programName() string {
	path, err := os.Executable()
	if err != nil || strings.HasPrefix(path, os.TempDir()) {
		return "go run ./services/countersign"
	}
	if found := filepath.Base(path); os.Args[0] == found {
		return found
	}
	return path
}
