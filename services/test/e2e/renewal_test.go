package e2e

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/countersign/countersign/deploy/redisacl"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/pkg/testkit/testcert"
	"github.com/countersign/countersign/services/internal/adminkeys"
)

// volume is a folder whose files change like those of a Kubernetes Secret: all at once, by a symbolic link.
type volume struct {
	folder string
	latest string
	serial int
}

// put changes files of the volume, by name.
func (v *volume) put(t *testing.T, files map[string][]byte) {
	t.Helper()
	v.serial++
	next := filepath.Join(v.folder, fmt.Sprintf("..data_%d", v.serial))
	succeed(t, os.Mkdir(next, 0o700))
	for name, data := range files {
		succeed(t, os.WriteFile(filepath.Join(next, name), data, 0o600))
		if v.latest == "" {
			succeed(t, os.Symlink(filepath.Join("..data", name), filepath.Join(v.folder, name)))
		}
	}
	succeed(t, os.Symlink(filepath.Base(next), filepath.Join(v.folder, "..data_tmp")))
	succeed(t, os.Rename(filepath.Join(v.folder, "..data_tmp"), filepath.Join(v.folder, "..data")))
	if v.latest != "" {
		succeed(t, os.RemoveAll(v.latest))
	}
	v.latest = next
}

func succeed(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// replaceFile replaces a file atomically.
func replaceFile(t *testing.T, path string, data []byte) {
	t.Helper()
	succeed(t, os.WriteFile(path+".next", data, 0o600))
	succeed(t, os.Rename(path+".next", path))
}

// TestRenewalsNeedNoRestart: an authority serves a renewed certificate, even from another certificate
// authority, and a validator accepts it. Changed keys take effect at once, even for an open stream. No
// process restarts.
func TestRenewalsNeedNoRestart(t *testing.T) {
	p := &processes{redis: redistest.StartWithAccounts(t), keys: map[string]string{}}
	folder, common := p.prepare(t)
	first, second := check.Must(testcert.New())(t), check.Must(testcert.New())(t)
	certificates := &volume{folder: t.TempDir()}
	issue := func(by *testcert.Authority) *testcert.Pair {
		t.Helper()
		pair := check.Must(by.Issue(time.Hour))(t)
		certificates.put(t, map[string][]byte{"tls.crt": pair.Certificate, "tls.key": pair.Key})
		return pair
	}
	issue(first)
	caFile, keyFile, adminFile := filepath.Join(folder, "ca.crt"), filepath.Join(folder, "fleet.key"),
		filepath.Join(folder, keysFile)
	replaceFile(t, caFile, first.PEM)
	replaceFile(t, keyFile, []byte(check.Must(adminkeys.Add(adminFile, "validators", adminkeys.Validator))(t).Reveal()))

	authority := &daemon{process: newProcess(t, "authority"), log: newLogPipe(t)}
	authority.transport = credentials.NewTLS(&tls.Config{RootCAs: first.Pool})
	authority.start(t, folder, append(common[:len(common):len(common)], "--reload-interval=100ms",
		"--admin-keys-file="+adminFile,
		"--tls-cert-file="+filepath.Join(certificates.folder, "tls.crt"),
		"--tls-key-file="+filepath.Join(certificates.folder, "tls.key"),
		"--redis-url="+p.redis.URLFor(redisacl.Authority))...)
	// The validator does not check its files by itself.
	validator := startDaemon(t, folder, "validator",
		append(common[:len(common):len(common)], "--reload-interval=24h", "--authority="+authority.grpc,
			"--authority-tls-ca-file="+caFile, "--fleet-key-file="+keyFile, "--redis-url="+p.redis.URLFor(redisacl.Validator))...)
	reporting := func(want string) {
		t.Helper()
		validator.awaitMetric(t, "countersign_report_connected", func(value string) bool { return value == want })
	}
	reporting("1")
	// serves waits until the authority shows a certificate to new connections.
	serves := func(want *testcert.Pair, by *testcert.Authority) {
		t.Helper()
		check.Eventually(t, "the renewed certificate", func() error {
			connection, err := tls.Dial("tcp", authority.grpc, &tls.Config{RootCAs: by.Pool})
			if err != nil {
				return err
			}
			defer connection.Close()
			if got := connection.ConnectionState().PeerCertificates[0].SerialNumber; got.Cmp(want.Serial) != 0 {
				return fmt.Errorf("serial number %d, want %d", got, want.Serial)
			}
			return nil
		})
	}
	serves(issue(first), first)

	replaceFile(t, caFile, append(first.PEM, second.PEM...))
	validator.signal(t, syscall.SIGHUP)
	validator.awaitMetric(t, `countersign_file_reloads_total{file="authority-tls-ca-file",result="ok"}`,
		func(value string) bool { return value == "1" })
	renewed := issue(second)
	serves(renewed, second)
	reporting("1") // over the old connection

	// The open stream ends with its key. The next one needs the new certificate and the new key.
	aside := filepath.Join(folder, "aside.json")
	ada := secret.New(p.keys["ada"])
	succeed(t, adminkeys.AddKey(aside, "ada", adminkeys.Admin, ada))
	next := check.Must(adminkeys.Add(aside, "validators-2", adminkeys.Validator))(t)
	succeed(t, os.Rename(aside, adminFile))
	reporting("0")
	replaceFile(t, keyFile, []byte(next.Reveal()))
	validator.signal(t, syscall.SIGHUP)
	reporting("1")

	certificates.put(t, map[string][]byte{"tls.crt": renewed.Certificate, "tls.key": []byte("nothing")})
	authority.awaitMetric(t, `countersign_file_refused{file="tls-cert-file"}`, func(value string) bool { return value == "1" })
	serves(renewed, second)
	authority.terminate(t)
	validator.terminate(t)
}
