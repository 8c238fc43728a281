package grpcserver

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/reload"
	"github.com/countersign/countersign/pkg/testkit/check"
)

func replace(t *testing.T, path, by string) {
	t.Helper()
	data, err := os.ReadFile(by)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestRenewedCertificate: new connections get a renewed certificate, open connections go on, and a bad file
// changes nothing.
func TestRenewedCertificate(t *testing.T) {
	ours, next := newAuthority(t), newAuthority(t)
	cert, key := ours.issue(t)
	logs := new(logs)
	files := reload.New(time.Hour, logs.logger())
	server := start(t, Config{TLS: TLS{CertFile: cert, KeyFile: key}, Files: files}, &echo{call: repeat})
	web, err := NewHTTP(HTTPConfig{Listen: loopback(t), TLS: TLS{CertFile: cert, KeyFile: key}, Files: files},
		slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	serve(t, web.Serve)
	trusting := func(a authority) *grpc.ClientConn {
		trust := credentials.NewTLS(&tls.Config{RootCAs: a.pool})
		return check.Dial(t, server.Addr().String(), grpc.WithTransportCredentials(trust))
	}
	check := func(what string, connection *grpc.ClientConn, want codes.Code) {
		t.Helper()
		if _, err := call(t.Context(), connection, "hello"); status.Code(err) != want {
			t.Errorf("%s: %v, want %s", what, err, want)
		}
	}
	before := trusting(ours)
	check("at the start", before, codes.OK)

	otherCert, otherKey := next.issue(t)
	replace(t, cert, otherCert) // without its key
	files.Reload(t.Context())
	check("a certificate without its key", trusting(ours), codes.OK)
	replace(t, key, otherKey)
	files.Reload(t.Context())
	check("a renewed certificate", trusting(next), codes.OK)
	check("a renewed certificate, for a client that trusts the old one", trusting(ours), codes.Unavailable)
	check("a connection opened before", before, codes.OK)
	if err := os.WriteFile(cert, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	files.Reload(t.Context())
	check("a bad certificate", trusting(next), codes.OK)
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: next.pool}, ForceAttemptHTTP2: true,
	}}
	defer client.CloseIdleConnections()
	response, err := client.Get("https://" + web.Addr().String() + "/livez")
	if err != nil || response.ProtoMajor != 2 {
		t.Fatalf("HTTP: %v, %v", response, err)
	}
	response.Body.Close()
	for _, s := range files.Status() {
		if s.Reloads != 1 || s.Failures != 2 || !s.Refused || s.Expires.IsZero() {
			t.Errorf("%+v", s)
		}
	}
	if text := logs.String(); !strings.Contains(text, `"subject":"CN=test"`) || strings.Contains(text, "PRIVATE") {
		t.Errorf("the log is\n%s", text)
	}
}

// TestRenewedClientAuthorities: a client certificate is accepted only as long as its authority is in the
// file, also from a client that could resume a session.
func TestRenewedClientAuthorities(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	cert, key := ours.issue(t)
	list := writePEM(t, "clients.pem", "CERTIFICATE", theirs.cert.Raw)
	files := reload.New(time.Hour, slog.New(slog.DiscardHandler))
	server := start(t, Config{
		TLS: TLS{CertFile: cert, KeyFile: key, ClientCAFile: list, RequireClientCert: true}, Files: files,
	}, &echo{call: repeat})
	one := presenting(ours.pool, []tls.Certificate{theirs.pair(t)})
	other := presenting(ours.pool, []tls.Certificate{ours.pair(t)})
	one.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	check := func(what string, client *tls.Config, want codes.Code) {
		t.Helper()
		connection := check.Dial(t, server.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(client)))
		if _, err := call(t.Context(), connection, "hello"); status.Code(err) != want {
			t.Errorf("%s: %v, want %s", what, err, want)
		}
	}
	check("listed", one, codes.OK)
	check("not listed", other, codes.Unavailable)
	wantNoResumption(t, server.Addr(), one)
	both, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	added, err := os.ReadFile(ours.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(list, append(both, added[:len(added)/2]...), 0o600); err != nil {
		t.Fatal(err)
	}
	files.Reload(t.Context())
	if s := files.Status()[1]; !s.Refused {
		t.Error("a list that was cut is not refused")
	}
	if err := os.WriteFile(list, append(both, added...), 0o600); err != nil {
		t.Fatal(err)
	}
	files.Reload(t.Context())
	check("listed, another one was added", one, codes.OK)
	check("added", other, codes.OK)
	replace(t, list, ours.file)
	files.Reload(t.Context())
	check("taken out", one, codes.Unavailable)
	check("left in", other, codes.OK)
}

// wantNoResumption fails the test when a TLS session is resumed.
func wantNoResumption(t *testing.T, server net.Addr, client *tls.Config) {
	t.Helper()
	for range 2 {
		connection, err := tls.Dial("tcp", server.String(), client)
		if err != nil {
			t.Fatal(err)
		}
		// A server sends its session tickets after the handshake, before any other data.
		_, _ = connection.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
		_, _ = connection.Read(make([]byte, 1))
		if connection.ConnectionState().DidResume {
			t.Error("a session was resumed")
		}
		connection.Close()
	}
}

// TestChain: a chain is valid while all of its certificates are, and every certificate is read.
func TestChain(t *testing.T) {
	read := func(path string) []byte {
		t.Helper()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	a := newAuthority(t)
	certFile, keyFile := a.issue(t)
	cert, key, root := read(certFile), read(keyFile), read(a.file)
	p, err := parsePair([][]byte{slices.Concat(cert, root), key})
	if err != nil {
		t.Fatal(err)
	}
	begins, expires := p.Leaf.NotBefore, p.Leaf.NotAfter
	if a.cert.NotBefore.After(begins) {
		begins = a.cert.NotBefore
	}
	if a.cert.NotAfter.Before(expires) {
		expires = a.cert.NotAfter
	}
	if !p.Begins().Equal(begins) || !p.Expires().Equal(expires) || len(p.Certificate.Certificate) != 2 {
		t.Errorf("%d certificates are valid from %s to %s, want 2 from %s to %s",
			len(p.Certificate.Certificate), p.Begins(), p.Expires(), begins, expires)
	}
	root[len(root)/2] = '!'
	if p, err := parsePair([][]byte{slices.Concat(cert, root), key}); err == nil {
		t.Errorf("%d certificates of a damaged chain are read, want an error", len(p.Certificate.Certificate))
	}
}

// TestCertificateOfTomorrow: a certificate that is not valid yet does not replace a valid one.
func TestCertificateOfTomorrow(t *testing.T) {
	ours := newAuthority(t)
	cert, key := ours.issue(t)
	files := reload.New(time.Hour, slog.New(slog.DiscardHandler))
	server := start(t, Config{TLS: TLS{CertFile: cert, KeyFile: key}, Files: files}, &echo{call: repeat})
	nextCert, nextKey := ours.issueFrom(t, time.Now().Add(24*time.Hour))
	replace(t, cert, nextCert)
	replace(t, key, nextKey)
	files.Reload(t.Context())
	trust := credentials.NewTLS(&tls.Config{RootCAs: ours.pool})
	connection := check.Dial(t, server.Addr().String(), grpc.WithTransportCredentials(trust))
	if _, err := call(t.Context(), connection, "hello"); err != nil {
		t.Error(err)
	}
	if s := files.Status()[0]; !s.Refused {
		t.Errorf("%+v", s)
	}
}
