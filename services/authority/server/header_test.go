package server

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/grpcserver"
	"github.com/countersign/countersign/pkg/testkit/rawgrpc"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/internal/adminkeys"
)

// TestB26_EveryCallIsRefusedByItsHeader: a call without an identity, or with a role that may not call the
// method, fails before the server reads its message. So such a message takes no memory. The test sends
// headers only: a server that reads the message would wait for ever.
func TestB26_EveryCallIsRefusedByItsHeader(t *testing.T) {
	s, keys := runWithKeys(t, adminkeys.Viewer)
	viewer := keys[0]
	conn := rawgrpc.Dial(t, s.Addr().String())
	for _, service := range []grpc.ServiceDesc{
		countersignv1.AuthorityService_ServiceDesc,
		countersignv1.FleetService_ServiceDesc,
	} {
		var methods []string
		for _, m := range service.Methods {
			methods = append(methods, m.MethodName)
		}
		for _, m := range service.Streams {
			methods = append(methods, m.StreamName)
		}
		for _, method := range methods {
			name := "/" + service.ServiceName + "/" + method
			if code, words := conn.Status(conn.Open(name)); code != "16" || !strings.Contains(words, "no credential") {
				t.Errorf("%s without an identity: got %s %s, want 16 (UNAUTHENTICATED)", method, code, words)
			}
			if code, _ := conn.Status(conn.Open(name, "authorization", "Bearer nonsense")); code != "16" {
				t.Errorf("%s with a bad key: got %s, want 16 (UNAUTHENTICATED)", method, code)
			}
			if strings.HasPrefix(method, "Get") || strings.HasPrefix(method, "List") || strings.HasPrefix(method, "Wait") {
				continue
			}
			code, words := conn.Status(conn.Open(name, "authorization", "Bearer "+viewer.Reveal()))
			if code != "7" || !strings.Contains(words, "role viewer") {
				t.Errorf("%s by a viewer: got %s %s, want 7 (PERMISSION_DENIED)", method, code, words)
			}
		}
	}
}

// TestB26_AViewerStopsNoChange: a viewer opens many calls, and announces messages that it does not send.
// These calls delay no other call.
func TestB26_AViewerStopsNoChange(t *testing.T) {
	s, keys := runWithKeys(t, adminkeys.Viewer, adminkeys.Admin)
	viewer, admin := keys[0], keys[1]
	conn := rawgrpc.Dial(t, s.Addr().String())
	opened := func() uint32 {
		return conn.Open(countersignv1.AuthorityService_ListApps_FullMethodName, "authorization", "Bearer "+viewer.Reveal())
	}
	for range 500 {
		opened()
		conn.Announce(opened(), 64<<10)
	}
	large := opened()
	conn.Announce(large, grpcserver.ManagementMaxReceive)
	if code, words := conn.Status(large); code != "8" || !strings.Contains(words, "want at most 65536") {
		t.Errorf("a list call that announces a message as large as an import: got %s %s, want 8 (RESOURCE_EXHAUSTED)", code, words)
	}
	connection, err := grpc.NewClient(s.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	// The server has no store, so UNAVAILABLE shows that the call was served.
	if _, err := countersignv1.NewAuthorityServiceClient(connection).RevokeToken(ctx,
		&countersignv1.RevokeTokenRequest{AppId: "app1", TokenId: "tok_aaaaaaaaaaaaaaaa"},
		grpc.PerRPCCredentials(bearer(admin.Reveal()))); status.Code(err) != codes.Unavailable || apierr.ReasonOf(err) == "" {
		t.Error(err)
	}
}
