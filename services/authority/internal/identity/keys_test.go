package identity_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/reload"
	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/identity"
	"github.com/countersign/countersign/services/internal/adminkeys"
)

func hexDigest(text string) string {
	digest := secret.DigestOf(text)
	return hex.EncodeToString(digest[:])
}

// TestB26_BadKeysFiles: a bad file is rejected at once, by an error that names the file and holds nothing of
// its content.
func TestB26_BadKeysFiles(t *testing.T) {
	key := secret.MintAdminKey().Reveal()
	entry := func(name, role, digest string) string {
		return `{"name": "` + name + `", "role": "` + role + `", "sha256": "` + digest + `"}`
	}
	good := entry("ada", "admin", hexDigest(key))
	for _, tt := range []struct{ name, file string }{
		{"empty", ""},
		{"no keys", `{"keys": []}`},
		{"nothing in it", `{}`},
		{"not JSON", "csadm_" + strings.Repeat("0", 49)},
		{"unknown field", `{"keys": [` + good + `], "more": 1}`},
		{"name twice", `{"keys": [` + good + "," + entry("ada", "viewer", hexDigest("x")) + `]}`},
		{"key twice", `{"keys": [` + good + "," + entry("eve", "viewer", hexDigest(key)) + `]}`},
		{"unknown role", `{"keys": [` + entry("ada", "root", hexDigest(key)) + `]}`},
		{"no role", `{"keys": [` + entry("ada", "", hexDigest(key)) + `]}`},
		{"no name", `{"keys": [` + entry(" ", "admin", hexDigest(key)) + `]}`},
		{"short digest", `{"keys": [` + entry("ada", "admin", hexDigest(key)[2:]) + `]}`},
		{"the key itself", `{"keys": [` + entry("ada", "admin", key) + `]}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := t.TempDir() + "/admin-keys.json"
			if err := os.WriteFile(path, []byte(tt.file), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := identity.LoadKeys(nil, path)
			if err == nil || !strings.Contains(err.Error(), path) {
				t.Fatalf("got %v, want an error that names the file", err)
			}
			if strings.Contains(err.Error(), key) {
				t.Errorf("B02: the error holds the key: %v", err)
			}
		})
	}
	if _, err := identity.LoadKeys(nil, t.TempDir()+"/missing.json"); err == nil {
		t.Error("a missing file is not an error")
	}
}

// TestB26_KeysFileChanges: while an authority runs, an added key may call at once. A removed key may not,
// also on an open stream. A bad file changes nothing.
func TestB26_KeysFileChanges(t *testing.T) {
	path := t.TempDir() + "/admin-keys.json"
	add := func(name string, role adminkeys.Role) string {
		t.Helper()
		key, err := adminkeys.Add(path, name, role)
		if err != nil {
			t.Fatal(err)
		}
		return key.Reveal()
	}
	ada, val := add("ada", adminkeys.Admin), add("val", adminkeys.Validator)
	var log bytes.Buffer
	files := reload.New(time.Hour, slog.New(slog.NewTextHandler(&log, nil)))
	source, err := identity.LoadKeys(files, path)
	if err != nil {
		t.Fatal(err)
	}
	known := func(what, key string, want bool) {
		t.Helper()
		if got := knows(t, source, key); got != want {
			t.Errorf("%s: known %t, want %t", what, got, want)
		}
	}
	stream := openStream(t, source, val)
	grace := add("grace", adminkeys.Admin)
	known("added, not read yet", grace, false)
	files.Reload(t.Context())
	known("added", grace, true)
	if err := stream.SendMsg(nil); err != nil {
		t.Errorf("a stream of a known key: %v", err)
	}

	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", `{"keys": []}`, string(whole[:len(whole)/2]), ada} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		files.Reload(t.Context())
		known("while the file is bad", ada, true)
		known("while the file is bad", grace, true)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	add("hedy", adminkeys.Admin)
	files.Reload(t.Context())
	known("taken out", ada, false)
	for name, call := range map[string]func(any) error{"received": stream.RecvMsg, "sent": stream.SendMsg} {
		if code := status.Code(grpcError(call(nil))); code != codes.Unauthenticated {
			t.Errorf("a message is %s on a stream of a key that was taken out: %s", name, code)
		}
	}
	if text := log.String(); !strings.Contains(text, "grace (admin)") || strings.Contains(text, ada) ||
		strings.Contains(text, hexDigest(ada)) {
		t.Errorf("the log is\n%s", text)
	}
}

// knows tells whether a source knows the caller with an admin key.
func knows(t *testing.T, source identity.Source, key string) bool {
	t.Helper()
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("authorization", "Bearer "+key))
	_, err := source.Identify(ctx)
	var bad identity.CredentialError
	if err != nil && !errors.As(err, &bad) {
		t.Errorf("not a CredentialError: %v", err)
	}
	return err == nil
}

// openStream returns the stream of a validator, as its handler sees it.
func openStream(t *testing.T, source identity.Source, key string) (opened grpc.ServerStream) {
	t.Helper()
	management, fleet := countersignv1.AuthorityService_ServiceDesc.ServiceName,
		countersignv1.FleetService_ServiceDesc.ServiceName
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("authorization", "Bearer "+key))
	err := identity.GuardStreams(source, management, fleet)(nil, silentStream{ctx: ctx},
		&grpc.StreamServerInfo{FullMethod: "/" + fleet + "/Report"},
		func(_ any, stream grpc.ServerStream) error { opened = stream; return nil })
	if err != nil {
		t.Fatal(err)
	}
	return opened
}

// silentStream accepts every message.
type silentStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s silentStream) Context() context.Context { return s.ctx }
func (s silentStream) SendMsg(any) error        { return nil }
func (s silentStream) RecvMsg(any) error        { return nil }
