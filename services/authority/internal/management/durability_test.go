package management_test

import (
	"errors"
	"net"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/test/cluster"
)

// TestDurability: an authority that waits for Redis replicas answers every change with how many have it.
// Another authority leaves the field out.
func TestDurability(t *testing.T) {
	w := newWorldWith(t, cluster.Options{RedisArgs: []string{"--repl-diskless-sync-delay", "0"}})
	host, port, _ := net.SplitHostPort(w.Redis.Address())
	redistest.StartWithAccounts(t, "--replicaof", host+" "+port)
	check.Eventually(t, "a replica", func() error {
		if w.Redis.Info("replication")["connected_slaves"] != "1" {
			return errors.New("there is none yet")
		}
		return nil
	})
	authority := w.anotherWith(t, w.RedisURL, 1)
	one, none := &pb.Durability{Wanted: 1, Acknowledged: 1}, &pb.Durability{Wanted: 1}
	wantDurability := func(what string, got, want *pb.Durability) {
		t.Helper()
		if !proto.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	ctx, app := t.Context(), newApp()
	leaked := foreign()

	wantDurability("without a quorum", w.create(t, newApp(), "a", events).GetDurability(), nil)
	request := &pb.CreateTokenRequest{AppId: app, Name: "a", Scopes: []pb.Scope{events}, RequestId: "r1"}
	created := check.Must(authority.CreateToken(ctx, request))(t)
	wantDurability("CreateToken", created.GetDurability(), one)
	wantDurability("a repetition", check.Must(authority.CreateToken(ctx, request))(t).GetDurability(), none)
	id := created.GetToken().GetTokenId()
	update := &pb.UpdateTokenRequest{
		AppId: app, Token: &pb.Token{TokenId: id, Note: "noted"}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"note"}},
	}
	wantDurability("UpdateToken", check.Must(authority.UpdateToken(ctx, update))(t).GetDurability(), one)
	wantDurability("UpdateToken that changes nothing", check.Must(authority.UpdateToken(ctx, update))(t).GetDurability(), none)
	wantDurability("RotateToken", check.Must(authority.RotateToken(ctx,
		&pb.RotateTokenRequest{AppId: app, TokenId: id}))(t).GetDurability(), one)
	wantDurability("RevokeToken", check.Must(authority.RevokeToken(ctx,
		&pb.RevokeTokenRequest{AppId: app, TokenId: id}))(t).GetDurability(), one)
	imports := &pb.ImportTokensRequest{AppId: app, Imports: []*pb.TokenImport{
		{Name: "b", Scopes: []pb.Scope{events}, Credential: &pb.TokenImport_Secret{Secret: leaked}},
	}}
	wantDurability("ImportTokens", check.Must(authority.ImportTokens(ctx, imports))(t).GetDurability(), one)
	enforce := &pb.SetEnforcementRequest{AppId: app, Scopes: []pb.Scope{events}, ValidateOnly: true, AllowRejections: true}
	wantDurability("SetEnforcement, validate_only", check.Must(authority.SetEnforcement(ctx, enforce))(t).GetDurability(), nil)
	enforce.ValidateOnly = false
	wantDurability("SetEnforcement", check.Must(authority.SetEnforcement(ctx, enforce))(t).GetDurability(), one)
	wantDurability("RevokeSecret", check.Must(authority.RevokeSecret(ctx,
		&pb.RevokeSecretRequest{Secret: leaked}))(t).GetDurability(), one)
	check.Must(authority.SetEnforcement(ctx, &pb.SetEnforcementRequest{AppId: app}))(t)
	wantDurability("DeleteApp", check.Must(authority.DeleteApp(ctx, &pb.DeleteAppRequest{AppId: app}))(t).GetDurability(), one)
	wantDurability("RevokeSecret of a deleted app", check.Must(authority.RevokeSecret(ctx,
		&pb.RevokeSecretRequest{Secret: leaked}))(t).GetDurability(), nil)
}
