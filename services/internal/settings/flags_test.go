package settings

import (
	"encoding/json"
	"io"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/countersign/countersign/pkg/grpcserver"
)

func TestListen(t *testing.T) {
	const (
		form = `want host:port, such as 127.0.0.1:7070, [::1]:7070, or :7070 for every interface`
		host = `the host is neither an IP address nor a name`
		port = `the port is not a number from 1 to 65535`
	)
	for value, want := range map[string]string{
		":7070":                  "",
		"127.0.0.1:7070":         "",
		"0.0.0.0:1":              "",
		"[::1]:65535":            "",
		"[fe80::1%eth0]:7070":    "",
		"localhost:7070":         "",
		"authority-0.cs_x:7070":  "",
		"":                       form,
		"7070":                   form,
		"127.0.0.1":              form,
		"::1:7070":               form,
		"http://localhost:7070":  form,
		"local host:7070":        host,
		"a/b:7070":               host,
		"[localhost/x]:7070":     host,
		"-x:7070":                host,
		"localhost:":             port,
		"localhost:0":            port,
		"localhost:65536":        port,
		"localhost:-1":           port,
		"localhost:grpc":         port,
		"localhost:7070/metrics": port,
	} {
		t.Run(value, func(t *testing.T) {
			var got *string
			c := command(func(flags *pflag.FlagSet) { got = Listen(flags, "grpc-listen", ":7070", "where") })
			_, err := run(c, "--grpc-listen="+value)
			if want == "" {
				expect(t, "error", words(err), "")
				expect(t, "--grpc-listen", *got, value)
				return
			}
			expect(t, "error", words(err), `--grpc-listen: "`+value+`": `+want)
			expect(t, "--grpc-listen", *got, ":7070")
		})
	}
}

func TestDuration(t *testing.T) {
	const form = `want a duration, such as 250ms, 10s or 1h30m`
	for value, want := range map[string]string{
		"1s":      "",
		"250ms":   `want a duration from 1s to 1m0s`,
		"1m":      "",
		"1m0.1s":  `want a duration from 1s to 1m0s`,
		"-5s":     `want a duration from 1s to 1m0s`,
		"5":       form,
		"":        form,
		"quickly": form,
	} {
		t.Run(value, func(t *testing.T) {
			var got *time.Duration
			c := command(func(flags *pflag.FlagSet) {
				got = Duration(flags, "drain", 10*time.Second, time.Second, time.Minute, "how long")
			})
			_, err := run(c, "--drain="+value)
			if want == "" {
				expect(t, "error", words(err), "")
				return
			}
			expect(t, "error", words(err), `--drain: "`+value+`": `+want)
			expect(t, "--drain", *got, 10*time.Second)
		})
	}
}

func TestLog(t *testing.T) {
	const (
		levels  = `want debug, info, warn or error`
		formats = `want json or text`
	)
	for name, tt := range map[string]struct {
		format string
		args   []string
		json   bool
		want   string
		err    string
	}{
		"default json": {format: JSON, json: true, want: "iwe"},
		"default text": {format: Text, want: "iwe"},
		"json":         {format: Text, args: []string{"--log-format=json"}, json: true, want: "iwe"},
		"text":         {format: JSON, args: []string{"--log-format=text"}, want: "iwe"},
		"debug":        {format: Text, args: []string{"--log-level=debug"}, want: "diwe"},
		"info":         {format: Text, args: []string{"--log-level=info"}, want: "iwe"},
		"warn":         {format: Text, args: []string{"--log-level=warn"}, want: "we"},
		"error":        {format: Text, args: []string{"--log-level=error"}, want: "e"},
		"bad level":    {format: Text, args: []string{"--log-level=WARN"}, err: `--log-level: "WARN": ` + levels},
		"no level":     {format: Text, args: []string{"--log-level="}, err: `--log-level: "": ` + levels},
		"bad format":   {format: Text, args: []string{"--log-format=xml"}, err: `--log-format: "xml": ` + formats},
	} {
		t.Run(name, func(t *testing.T) {
			var logger func(io.Writer) *slog.Logger
			c := command(func(flags *pflag.FlagSet) { logger = Log(flags, tt.format) })
			_, err := run(c, tt.args...)
			expect(t, "error", words(err), tt.err)
			if tt.err != "" {
				return
			}
			var output strings.Builder
			l := logger(&output)
			l.Debug("d")
			l.Info("i")
			l.Warn("w")
			l.Error("e")
			got := ""
			for line := range strings.Lines(output.String()) {
				message := logged.FindStringSubmatch(line)
				if message == nil || json.Valid([]byte(line)) != tt.json {
					t.Fatalf("line %q does not have the requested format", line)
				}
				got += message[1]
			}
			expect(t, "what was logged", got, tt.want)
		})
	}
}

var logged = regexp.MustCompile(`"?msg"?[=:]"?(\w)`)

func TestTLS(t *testing.T) {
	const missing = "if any flags in the group [tls-cert-file tls-key-file] are set they must all be set; missing "
	for name, tt := range map[string]struct {
		args []string
		env  string
		want grpcserver.TLS
		err  string
	}{
		"none": {},
		"both": {
			args: []string{"--tls-cert-file=c", "--tls-key-file=k"},
			want: grpcserver.TLS{CertFile: "c", KeyFile: "k"},
		},
		"mixed": {
			args: []string{"--tls-cert-file=c"}, env: "e",
			want: grpcserver.TLS{CertFile: "c", KeyFile: "e"},
		},
		"cert only":                      {args: []string{"--tls-cert-file=c"}, err: missing + "[tls-key-file]"},
		"key only":                       {args: []string{"--tls-key-file=k"}, err: missing + "[tls-cert-file]"},
		"key only, from the environment": {env: "e", err: missing + "[tls-cert-file]"},
		"client authorities": {
			args: []string{"--tls-cert-file=c", "--tls-key-file=k", "--tls-client-ca-file=a"},
			want: grpcserver.TLS{CertFile: "c", KeyFile: "k", ClientCAFile: "a"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("COUNTERSIGN_TLS_KEY_FILE", tt.env)
			c := &cobra.Command{
				Use: "test", SilenceUsage: true, SilenceErrors: true,
				Run: func(*cobra.Command, []string) {},
			}
			files := TLS(c)
			BindEnv(c)
			_, err := run(c, tt.args...)
			expect(t, "error", words(err), tt.err)
			if tt.err == "" {
				expect(t, "files", *files, tt.want)
			}
		})
	}
}
