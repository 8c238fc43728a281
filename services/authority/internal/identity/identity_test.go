package identity_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/identity"
	"github.com/countersign/countersign/services/internal/adminkeys"
)

var service = countersignv1.AuthorityService_ServiceDesc

// reading has every method that a viewer may call, changing every method that needs an admin. A method of the
// contract that is in neither list fails the test below: its author decides here who may call it.
var (
	reading = []string{
		"GetApp", "GetReadiness", "GetToken", "ListApps", "ListAuditEvents", "ListReadiness", "ListTokens",
		"ListValidators", "WaitForPropagation",
	}
	changing = []string{
		"CreateToken", "DeleteApp", "FindToken", "ForgetValidator", "ImportTokens", "RevokeSecret", "RevokeToken", "RotateToken",
		"SetEnforcement", "UpdateToken",
	}
)

func TestB26_EveryMethodHasItsRole(t *testing.T) {
	var methods []string
	for _, method := range service.Methods {
		methods = append(methods, method.MethodName)
	}
	known := slices.Concat(reading, changing)
	slices.Sort(methods)
	slices.Sort(known)
	if !slices.Equal(methods, known) {
		t.Errorf("the contract has the methods %v, this test knows %v", methods, known)
	}
	if len(service.Streams) != 0 {
		t.Errorf("streams %v: who may open them?", service.Streams)
	}
	fleet := countersignv1.FleetService_ServiceDesc
	if len(fleet.Methods) != 0 || len(fleet.Streams) != 1 {
		t.Errorf("FleetService has the methods %v and the streams %v: who may call them?", fleet.Methods, fleet.Streams)
	}
}

// keys returns the source of a file with a viewer, an admin and a validator, and their keys.
func keys(t *testing.T) (source identity.Source, viewer, admin, validator string) {
	t.Helper()
	path := t.TempDir() + "/admin-keys.json"
	add := func(name string, role adminkeys.Role) string {
		key, err := adminkeys.Add(path, name, role)
		if err != nil {
			t.Fatal(err)
		}
		return key.Reveal()
	}
	viewer, admin, validator = add("vera", adminkeys.Viewer), add("ada", adminkeys.Admin), add("val", adminkeys.Validator)
	source, err := identity.LoadKeys(nil, path)
	if err != nil {
		t.Fatal(err)
	}
	return source, viewer, admin, validator
}

// call sends a call with metadata through the guard, and returns the caller that the handler sees.
func call(source identity.Source, method string, pairs ...string) (caller identity.Identity, reached bool, err error) {
	ctx := context.Background()
	if len(pairs) > 0 {
		ctx = metadata.NewIncomingContext(ctx, metadata.Pairs(pairs...))
	}
	_, err = identity.Guard(source, service.ServiceName)(ctx, nil, &grpc.UnaryServerInfo{FullMethod: method},
		func(ctx context.Context, _ any) (any, error) {
			caller, reached = identity.From(ctx), true
			return nil, nil
		})
	return caller, reached, err
}

func full(method string) string { return "/" + service.ServiceName + "/" + method }

func TestB26_Roles(t *testing.T) {
	source, viewer, admin, validator := keys(t)
	check := func(method, key, name string, want codes.Code) {
		t.Helper()
		caller, reached, err := call(source, full(method), "authorization", "Bearer "+key)
		if code := status.Code(grpcError(err)); code != want || reached != (want == codes.OK) {
			t.Errorf("%s as %s: got %s, want %s (handler reached: %t)", method, name, code, want, reached)
		}
		if want == codes.OK && caller.Name != name {
			t.Errorf("%s: the handler takes the caller for %q, want %q", method, caller.Name, name)
		}
		if want == codes.PermissionDenied && apierr.ReasonOf(err) != "ROLE_DOES_NOT_REACH" {
			t.Errorf("%s: reason %q", method, apierr.ReasonOf(err))
		}
	}
	for _, method := range reading {
		check(method, viewer, "vera", codes.OK)
		check(method, admin, "ada", codes.OK)
		check(method, validator, "val", codes.PermissionDenied)
	}
	// An unknown method needs an admin.
	for _, method := range slices.Concat(changing, []string{"PurgeAudit", "", "getToken", "ResetGetToken", "Watch"}) {
		check(method, viewer, "vera", codes.PermissionDenied)
		check(method, admin, "ada", codes.OK)
		check(method, validator, "val", codes.PermissionDenied)
	}
}

// fakeStream is a stream with a context and nothing else.
type fakeStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s fakeStream) Context() context.Context { return s.ctx }

// TestB26_StreamRoles: only validators report.
func TestB26_StreamRoles(t *testing.T) {
	source, viewer, admin, validator := keys(t)
	report := countersignv1.FleetService_Report_FullMethodName
	health := "/grpc.health.v1.Health/Watch"
	for _, tt := range []struct {
		method, key string
		source      identity.Source
		want        codes.Code
		name        string
	}{
		{report, validator, source, codes.OK, "val"},
		{report, admin, source, codes.PermissionDenied, ""},
		{report, viewer, source, codes.PermissionDenied, ""},
		{report, secret.MintAdminKey().Reveal(), source, codes.Unauthenticated, ""},
		{report, "", source, codes.Unauthenticated, ""},
		{report, "", identity.Anyone{}, codes.OK, "insecure-dev"},
		{"/countersign.v1.FleetService/Command", validator, source, codes.OK, "val"},
		{full("Watch"), validator, source, codes.PermissionDenied, ""},
		{full("Watch"), viewer, source, codes.PermissionDenied, ""},
		{full("ListAll"), viewer, source, codes.OK, "vera"},
		{full("Watch"), admin, source, codes.OK, "ada"},
		{health, "", source, codes.OK, ""},
	} {
		ctx := metadata.NewIncomingContext(context.Background(), metadata.Pairs("authorization", "Bearer "+tt.key))
		name := ""
		guard := identity.GuardStreams(tt.source, service.ServiceName, countersignv1.FleetService_ServiceDesc.ServiceName)
		err := guard(nil, fakeStream{ctx: ctx}, &grpc.StreamServerInfo{FullMethod: tt.method},
			func(_ any, stream grpc.ServerStream) error {
				name = identity.From(stream.Context()).Name
				return nil
			})
		if code := status.Code(grpcError(err)); code != tt.want || name != tt.name {
			t.Errorf("%s: %s as %q, want %s as %q", tt.method, code, name, tt.want, tt.name)
		}
	}
}

// grpcError is an error as its caller gets it.
func grpcError(err error) error {
	if err == nil {
		return nil
	}
	return status.Convert(err).Err()
}

func TestB26_Credentials(t *testing.T) {
	source, _, admin, _ := keys(t)
	unknown := secret.MintAdminKey().Reveal()
	appSecret := secret.Mint().Reveal()
	for _, tt := range []struct {
		name string
		sent []string
		want codes.Code
	}{
		{"known", []string{"authorization", "Bearer " + admin}, codes.OK},
		{"scheme in other case", []string{"authorization", "bEARER " + admin}, codes.OK},
		{"spaces around the key", []string{"authorization", "Bearer   " + admin + " "}, codes.OK},
		{"no metadata", nil, codes.Unauthenticated},
		{"other metadata", []string{"x-api-key", admin}, codes.Unauthenticated},
		{"empty", []string{"authorization", ""}, codes.Unauthenticated},
		{"scheme alone", []string{"authorization", "Bearer"}, codes.Unauthenticated},
		{"scheme and space", []string{"authorization", "Bearer "}, codes.Unauthenticated},
		{"key alone", []string{"authorization", admin}, codes.Unauthenticated},
		{"other scheme", []string{"authorization", "Basic " + admin}, codes.Unauthenticated},
		{"scheme twice", []string{"authorization", "Bearer Bearer " + admin}, codes.Unauthenticated},
		{"two values", []string{"authorization", "Bearer " + admin, "authorization", "Bearer " + admin}, codes.Unauthenticated},
		{"unknown key", []string{"authorization", "Bearer " + unknown}, codes.Unauthenticated},
		{"mistyped key", []string{"authorization", "Bearer " + admin[:len(admin)-1]}, codes.Unauthenticated},
		{"key and more", []string{"authorization", "Bearer " + admin + "x"}, codes.Unauthenticated},
		{"an app's secret", []string{"authorization", "Bearer " + appSecret}, codes.Unauthenticated},
		{"over-long", []string{"authorization", "Bearer " + strings.Repeat("a", 64<<10)}, codes.Unauthenticated},
		{"digest of the key", []string{"authorization", "Bearer " + hexDigest(admin)}, codes.Unauthenticated},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, reached, err := call(source, full("GetApp"), tt.sent...)
			if code := status.Code(grpcError(err)); code != tt.want || reached != (tt.want == codes.OK) {
				t.Fatalf("got %s, want %s (handler reached: %t)", code, tt.want, reached)
			}
			if err == nil {
				return
			}
			if apierr.ReasonOf(err) != "NO_IDENTITY" {
				t.Errorf("reason %q", apierr.ReasonOf(err))
			}
			for _, key := range []string{admin, unknown, appSecret, admin[6:]} {
				if strings.Contains(err.Error(), key) {
					t.Errorf("B02: the error holds what was sent: %v", err)
				}
			}
		})
	}
}

// TestB26_AnAppSecretIsNoAdminKey: the file has digests, so an operator may add the digest of an app's
// secret. That secret must not let anyone in.
func TestB26_AnAppSecretIsNoAdminKey(t *testing.T) {
	path := t.TempDir() + "/admin-keys.json"
	appSecret := secret.Mint().Reveal()
	file := `{"keys": [{"name": "mallory", "role": "admin", "sha256": "` + hexDigest(appSecret) + `"}]}`
	if err := adminkeys.WritePrivate(path, []byte(file)); err != nil {
		t.Fatal(err)
	}
	source, err := identity.LoadKeys(nil, path)
	if err != nil {
		t.Fatal(err)
	}
	if knows(t, source, appSecret) {
		t.Error("an app's secret is taken for an admin key")
	}
}

func TestB26_OtherServicesAreLeftAlone(t *testing.T) {
	source, _, _, _ := keys(t)
	for _, method := range []string{"/grpc.health.v1.Health/Check", "/other.AuthorityService/CreateToken"} {
		if _, reached, err := call(source, method); err != nil || !reached {
			t.Errorf("%s: %v", method, err)
		}
	}
}

// TestB26_InsecureDev: everyone is an admin, with or without a credential.
func TestB26_InsecureDev(t *testing.T) {
	for _, sent := range [][]string{nil, {"authorization", "Bearer whatever"}} {
		for _, method := range slices.Concat(reading, changing) {
			caller, reached, err := call(identity.Anyone{}, full(method), sent...)
			if err != nil || !reached || caller.Name != "insecure-dev" {
				t.Errorf("%s: %v, caller %+v", method, err, caller)
			}
		}
	}
}
