package client

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/services/internal/adminkeys"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAddress(t *testing.T) {
	for given, loopback := range map[string]bool{
		"localhost:7070": true, "127.0.0.1:7070": true, "127.8.9.10:1": true, "[::1]:7070": true, "[::ffff:127.0.0.1]:7070": true,
		"10.0.0.1:7070": false, "[2001:db8::1]:7070": false, "authority:7070": false, "localhost.example.com:7070": false,
		"0.0.0.0:7070": false, "LOCALHOST.:7070": false,
	} {
		var a Address
		if err := a.Set(given); err != nil || a.Loopback() != loopback {
			t.Errorf("%s: loopback %t, %v; want %t", given, a.Loopback(), err, loopback)
		}
	}
	for _, given := range []string{
		"", "7070", "localhost", ":7070", "localhost:", "localhost:0", "localhost:65536",
		"localhost:grpc", "http://localhost:7070",
	} {
		var a Address
		if a.Set(given) == nil {
			t.Errorf("%q was accepted as an address", given)
		}
	}
}

// An admin key never goes over the network in plain text unless that was asked for.
func TestSecurity(t *testing.T) {
	const here, there = Address("localhost:7070"), Address("authority:7070")
	for _, tt := range []struct {
		security    Security
		here, there bool
	}{
		{Security{}, false, true},
		{Security{TLS: true}, true, true},
		{Security{CAFile: "ca"}, true, true},
		{Security{Plaintext: true}, false, false},
		{Security{Plaintext: true, CAFile: "ca"}, false, false},
	} {
		if tt.security.Encrypts(here) != tt.here || tt.security.Encrypts(there) != tt.there {
			t.Errorf("%+v encrypts %t on loopback and %t elsewhere, want %t and %t",
				tt.security, tt.security.Encrypts(here), tt.security.Encrypts(there), tt.here, tt.there)
		}
	}
	if _, err := Dial(Target{Address: here, Security: Security{TLS: true, Plaintext: true}}); err == nil {
		t.Error("TLS and plain text at once were accepted")
	}
}

// The resolver decides what localhost means.
func TestPlainTextStaysOnLoopback(t *testing.T) {
	const elsewhere = "192.0.2.1:7070" // an address for documentation (RFC 5737)
	d := &dialer{Target: Target{Address: "localhost:7070"}}
	if _, err := d.dial(t.Context(), elsewhere); err == nil || !strings.Contains(err.Error(), "not a loopback address") {
		t.Errorf("a connection in plain text to %s: %v", elsewhere, err)
	}
}

// The error says why a server cannot be reached.
func TestUnreachable(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // it accepts and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for address, want := range map[string]string{
		"127.0.0.1:1":          "nothing answers at 127.0.0.1:1: is the server running? (dial tcp",
		"nobody..here:7070":    "the name of nobody..here:7070 cannot be resolved: ", // no valid name, so no resolver is asked
		silent.Addr().String(): "within 200ms: is the server running?",
	} {
		to := Target{Role: "server", Address: Address(address), Timeout: 5 * time.Second, Security: Security{Plaintext: true}}
		if address == silent.Addr().String() {
			to.Timeout = 200 * time.Millisecond
		}
		connection, err := Dial(to)
		if err != nil {
			t.Fatal(err)
		}
		_, err = healthpb.NewHealthClient(connection).Check(t.Context(), &healthpb.HealthCheckRequest{})
		var unreachable *UnreachableError
		if !errors.As(err, &unreachable) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", address, err, want)
		}
		_ = connection.Close()
	}
}

func TestFindKey(t *testing.T) {
	const here, there = Address("localhost:7070"), Address("authority:7070")
	folder := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", folder)
	t.Setenv("HOME", folder)
	file, err := adminkeys.DefaultKeyFile()
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]secret.Secret{}
	write := func(path string) {
		keys[path] = secret.MintAdminKey()
		if err := adminkeys.WritePrivate(path, []byte(keys[path].Reveal()+"\n")); err != nil {
			t.Fatal(err)
		}
	}
	find := func(what, file string, authority Address, from string) {
		t.Helper()
		key, err := FindKey(file, authority)
		if err != nil || key.From != from || key.secret.Digest() != keys[from].Digest() {
			t.Errorf("%s: found in %q, %v; want %q", what, key.From, err, from)
		}
	}
	keys[""] = secret.Secret{}
	find("none", "", here, "")
	write(file)
	find("the default file", "", here, file)
	find("the default file for another machine", "", there, "")
	keys[KeyVariable] = secret.MintAdminKey()
	t.Setenv(KeyVariable, keys[KeyVariable].Reveal())
	find("the variable before the default file", "", here, KeyVariable)
	find("the variable for another machine", "", there, KeyVariable)
	own := filepath.Join(folder, "own")
	write(own)
	find("the named file before all", own, there, own)

	if err := os.WriteFile(own, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := FindKey(own, here); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a file without a key: %v", err)
	}
	shown := fmt.Sprintf("%v %+v %#v", Security{}.Bearer(keys[KeyVariable], here), Key{secret: keys[KeyVariable]},
		Target{Key: Key{secret: keys[KeyVariable]}})
	if strings.Contains(shown, keys[KeyVariable].Reveal()) {
		t.Errorf("a key is shown: %s", shown)
	}
}
