package grpcserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/testkit/check"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
)

// authority signs certificates for 127.0.0.1, for servers and clients alike.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
	pool *x509.CertPool
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	a := authority{key: key, pool: x509.NewCertPool()}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	a.file = writePEM(t, "ca.pem", "CERTIFICATE", der)
	return a
}

// issue signs a certificate that is valid now, and returns its file and the file of its key.
func (a authority) issue(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	return a.issueFrom(t, time.Now().Add(-time.Hour))
}

// issueFrom signs a certificate that is valid from a time on, and returns its file and the file of its key.
func (a authority) issueFrom(t *testing.T, begins time.Time) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "test"},
		NotBefore: begins, NotAfter: begins.Add(48 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return writePEM(t, "cert.pem", "CERTIFICATE", der), writePEM(t, "key.pem", "PRIVATE KEY", keyDER)
}

func (a authority) pair(t *testing.T) tls.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(a.issue(t))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func writePEM(t *testing.T, name, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTLS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	cert, key := ours.issue(t)
	one, foreign := []tls.Certificate{ours.pair(t)}, []tls.Certificate{theirs.pair(t)}
	for name, tt := range map[string]struct {
		files  TLS
		client *tls.Config
		ok     bool
	}{
		"trusted":            {TLS{CertFile: cert, KeyFile: key}, &tls.Config{RootCAs: ours.pool}, true},
		"server not trusted": {TLS{CertFile: cert, KeyFile: key}, &tls.Config{RootCAs: theirs.pool}, false},
		"old version": {
			TLS{CertFile: cert, KeyFile: key}, &tls.Config{RootCAs: ours.pool, MaxVersion: tls.VersionTLS11}, false,
		},
		"optional, none": {
			TLS{CertFile: cert, KeyFile: key, ClientCAFile: ours.file}, &tls.Config{RootCAs: ours.pool}, true,
		},
		"optional, good": {
			TLS{CertFile: cert, KeyFile: key, ClientCAFile: ours.file},
			&tls.Config{RootCAs: ours.pool, Certificates: one}, true,
		},
		"optional, foreign": {
			TLS{CertFile: cert, KeyFile: key, ClientCAFile: ours.file}, presenting(ours.pool, foreign), false,
		},
		"required, none": {
			TLS{CertFile: cert, KeyFile: key, ClientCAFile: ours.file, RequireClientCert: true},
			&tls.Config{RootCAs: ours.pool}, false,
		},
		"required, good": {
			TLS{CertFile: cert, KeyFile: key, ClientCAFile: ours.file, RequireClientCert: true},
			&tls.Config{RootCAs: ours.pool, Certificates: one}, true,
		},
		"required, foreign": {
			TLS{CertFile: cert, KeyFile: key, ClientCAFile: ours.file, RequireClientCert: true},
			presenting(ours.pool, foreign), false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := start(t, Config{TLS: tt.files}, &echo{call: repeat})
			conn := check.Dial(t, server.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(tt.client)))
			got, err := call(t.Context(), conn, "hello")
			if tt.ok && (err != nil || got != "hello") {
				t.Errorf("call = %q, %v", got, err)
			}
			if !tt.ok && status.Code(err) != codes.Unavailable {
				t.Errorf("call = %v, want UNAVAILABLE", err)
			}
		})
	}
}

// presenting returns a client that shows its certificate even if the server asks for other authorities.
func presenting(roots *x509.CertPool, pairs []tls.Certificate) *tls.Config {
	return &tls.Config{RootCAs: roots, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &pairs[0], nil
	}}
}
