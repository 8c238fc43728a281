package daemon

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/pkg/keyring"
)

type runner func(context.Context) error

func (r runner) Run(ctx context.Context) error { return r(ctx) }

// A service gets the values of its flags and variables, or an error names the flag. It never starts without a
// ring.
func TestCommand(t *testing.T) {
	ring := filepath.Join(t.TempDir(), "ring.json")
	if err := keyring.Generate().Create(ring); err != nil {
		t.Fatal(err)
	}
	failed := errors.New("failed")
	tests := []struct {
		name string
		args []string
		env  map[string]string
		want string // part of the error; empty for none
	}{
		{
			"all given",
			[]string{"--keyring-file", ring, "--listen", "127.0.0.1:7000", "--write-quorum", "2", "--own", "x"},
			nil,
			"",
		},
		{"by environment", []string{"--own", "x"}, map[string]string{
			"COUNTERSIGN_KEYRING_FILE": ring,
			"COUNTERSIGN_LISTEN":       "127.0.0.1:7000", "COUNTERSIGN_WRITE_QUORUM": "2",
		}, ""},
		{"no ring", []string{"--listen", "127.0.0.1:7000"}, nil, "keyring-file"},
		{"ring is missing", []string{"--keyring-file", ring + "x"}, nil, "--keyring-file"},
		{"bad quorum", []string{"--keyring-file", ring, "--write-quorum", "-1"}, nil, "--write-quorum"},
		{"bad address", []string{"--keyring-file", ring, "--listen", "nowhere"}, nil, "listen"},
		{
			"bad address by environment",
			[]string{"--keyring-file", ring},
			map[string]string{"COUNTERSIGN_LISTEN": "nowhere"},
			"COUNTERSIGN_LISTEN",
		},
		{
			"empty address by environment",
			[]string{"--keyring-file", ring},
			map[string]string{"COUNTERSIGN_LISTEN": ""},
			"--listen (COUNTERSIGN_LISTEN): the variable is set but empty",
		},
		{
			"empty URL by environment",
			[]string{"--keyring-file", ring},
			map[string]string{"COUNTERSIGN_REDIS_URL": ""},
			"--redis-url (COUNTERSIGN_REDIS_URL): the variable is set but empty",
		},
		{"no certificate by environment", []string{
			"--keyring-file", ring, "--listen", "127.0.0.1:7000", "--write-quorum", "2",
			"--own", "x",
		}, map[string]string{"COUNTERSIGN_TLS_CERT_FILE": ""}, ""},
		{"empty flag", []string{"--keyring-file", ring, "--tls-client-ca-file", ""}, nil, "--tls-client-ca-file: want a value"},
		{"empty flag of the service", []string{"--keyring-file", ring, "--own="}, nil, "--own: want a value"},
		{"the service fails", []string{"--keyring-file", ring, "--own", "fail"}, nil, "failed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for name, value := range tt.env {
				t.Setenv(name, value)
			}
			stderr := newStderr(io.Discard)
			defer stderr.End()
			var own string
			var got *Config
			command := Service{
				Name: "service", Listen: ":1", HTTPListen: ":2",
				Flags: func(cmd *cobra.Command) { cmd.Flags().StringVar(&own, "own", "", "") },
				New: func(c Config) (Runner, error) {
					got = &c
					return runner(func(context.Context) error {
						if own == "fail" {
							return failed
						}
						return nil
					}), nil
				},
			}.command(stderr, nil)
			command.SetArgs(tt.args)
			err := command.Execute()
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("error = %v, want one with %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.GRPC.Listen != "127.0.0.1:7000" || got.HTTP.Listen != ":2" || got.WriteQuorum != 2 || got.Ring == nil ||
				got.Log == nil || own != "x" {
				t.Errorf("config = %+v, own = %q", got, own)
			}
		})
	}
}
