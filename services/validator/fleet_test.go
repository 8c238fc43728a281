package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/countersign/countersign/pkg/reload"
	"github.com/countersign/countersign/pkg/secret"
)

func TestFleetFlags(t *testing.T) {
	folder := t.TempDir()
	key := secret.MintAdminKey()
	write := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, bad := write("key", key.Reveal()+"\n"), write("other", "hunter2")
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		args []string
		id   string
		want string // a part of the error
	}{
		"none":      {nil, "", ""},
		"authority": {[]string{"--authority=localhost:7070"}, host + ":7071", ""},
		"key and name": {
			[]string{"--authority=localhost:7070", "--fleet-key-file=" + good, "--validator-id=v 1"},
			"v 1", "",
		},
		"key alone": {[]string{"--fleet-key-file=" + good}, "", "--fleet-key-file: there is no --authority"},
		"no such key": {
			[]string{"--authority=localhost:7070", "--fleet-key-file=missing"},
			"", "--fleet-key-file: open missing",
		},
		"no key": {[]string{"--authority=localhost:7070", "--fleet-key-file=" + bad}, "", "does not hold a key"},
		"bad name": {
			[]string{"--authority=localhost:7070", "--validator-id=v "},
			"", "--validator-id: want 1 to 100 characters",
		},
		"contradiction": {
			[]string{"--authority=localhost:7070", "--authority-tls", "--authority-plaintext"},
			"", "contradict",
		},
		"not an address":     {[]string{"--authority=http://localhost"}, "", "the port is not a number"},
		"address of no host": {[]string{"--authority=:7070"}, "", "want host:port"},
	} {
		t.Run(name, func(t *testing.T) {
			var f fleetFlags
			flags := pflag.NewFlagSet("", pflag.ContinueOnError)
			f.define(flags)
			err := flags.Parse(tt.args)
			config, configErr := f.config(":7071", nil)
			if err == nil {
				err = configErr
			}
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
					t.Errorf("%v, want %q", err, tt.want)
				}
				return
			}
			if err != nil || config.ID != tt.id {
				t.Errorf("%+v, %v; want the name %q", config, err, tt.id)
			}
			if name == "key and name" && config.Key.Digest() != key.Digest() {
				t.Error("it has another key")
			}
		})
	}
}

// TestFleetKeyChanges: a validator reports with the key in the file, and with the previous key while the
// file is bad.
func TestFleetKeyChanges(t *testing.T) {
	path, first, second := filepath.Join(t.TempDir(), "key"), secret.MintAdminKey(), secret.MintAdminKey()
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(first.Reveal())
	var log bytes.Buffer
	files := reload.New(time.Hour, slog.New(slog.NewTextHandler(&log, nil)))
	f := fleetFlags{authority: "localhost:7070", keyFile: path}
	config, err := f.config(":7071", files)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		text string
		want secret.Secret
	}{{first.Reveal(), first}, {second.Reveal() + "\n", second}, {"hunter2", second}, {"", second}, {first.Reveal(), first}} {
		write(step.text)
		files.Reload(t.Context())
		if config.CurrentKey().Digest() != step.want.Digest() {
			t.Errorf("with %d bytes in the file another key is in use", len(step.text))
		}
	}
	for _, bad := range []string{first.Reveal(), second.Reveal(), "hunter2"} {
		if strings.Contains(log.String(), bad) {
			t.Errorf("B02: the log holds what was in the file:\n%s", log.String())
		}
	}
}
