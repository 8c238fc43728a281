package dev

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"go.uber.org/goleak"

	"github.com/countersign/countersign/pkg/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// watched is a writer that calls seen when a text has been written.
type watched struct {
	mu     sync.Mutex
	buffer bytes.Buffer
	until  string
	once   sync.Once
	seen   func()
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.buffer.Write(p)
	if strings.Contains(w.buffer.String(), w.until) {
		w.once.Do(w.seen)
	}
	return n, err
}

func testOptions(t *testing.T) options {
	folder := t.TempDir()
	const any = "127.0.0.1:0"
	return options{
		app: "demo0app", authority: any, validators: [2]string{any, any}, http: [3]string{any, any, any},
		adminKeyFile: filepath.Join(folder, "admin-key"), secretFile: filepath.Join(folder, "demo-secret"),
		logger: func(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) },
	}
}

// dev does what the README promises: a minted secret, allowed and denied calls on both validators, and files
// with the keys while it runs.
func TestDev(t *testing.T) {
	o := testOptions(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var key, minted []byte
	out := &watched{until: "countersign.v1.ValidatorService/Authorize"}
	out.seen = func() {
		key, _ = os.ReadFile(o.adminKeyFile)
		minted, _ = os.ReadFile(o.secretFile)
		if info, err := os.Stat(o.adminKeyFile); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("admin key file: %v %v", info, err)
		}
		cancel()
	}
	var log bytes.Buffer
	if err := run(ctx, o, out, &log); err != nil {
		t.Fatal(err)
	}
	shown := out.buffer.String()
	for _, want := range []string{
		"ALLOW TOKEN_MISSING ALLOW TOKEN_MISSING",
		"ALLOW TOKEN_VALID ALLOW TOKEN_VALID",
		"DENY TOKEN_MISSING DENY TOKEN_MISSING",
		"DENY TOKEN_UNKNOWN DENY TOKEN_UNKNOWN",
		"DENY TOKEN_MALFORMED DENY TOKEN_MALFORMED",
		"DENY SCOPE_NOT_GRANTED DENY SCOPE_NOT_GRANTED",
		"DENY TOKEN_REVOKED DENY TOKEN_REVOKED",
		"is not kept",
	} {
		if !strings.Contains(strings.Join(strings.Fields(shown), " "), want) {
			t.Errorf("%q is not shown in:\n%s", want, shown)
		}
	}
	if !secret.WellFormedAdminKey(strings.TrimSpace(string(key))) || !secret.WellFormed(strings.TrimSpace(string(minted))) {
		t.Error("the files had no admin key or no secret while it ran")
	}
	if !strings.Contains(shown, strings.TrimSpace(string(minted))) {
		t.Error("the minted secret is not shown")
	}
	if logged := log.String(); strings.Contains(logged, strings.TrimSpace(string(key))) || strings.Contains(logged, "cs_") {
		t.Error("B02: the log holds a secret")
	}
	for _, path := range []string{o.adminKeyFile, o.secretFile} {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("%s still exists: %v", path, err)
		}
	}
}

// removeOurs keeps a key that somebody else has written into the file.
func TestDevLeavesOtherKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte("another\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	removeOurs(path, "ours")
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	removeOurs(path, "another")
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("our own key still exists: %v", err)
	}
}

func TestDevPortTaken(t *testing.T) {
	taken := miniredis.RunT(t)
	o := testOptions(t)
	o.validators[1] = taken.Addr()
	err := run(t.Context(), o, &bytes.Buffer{}, &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), taken.Addr()) {
		t.Errorf("error = %v, want one that names the address", err)
	}
	if _, err := os.Stat(o.adminKeyFile); !os.IsNotExist(err) {
		t.Error("the admin key file was written although nothing runs")
	}
}
