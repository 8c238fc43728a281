// Package testcert signs certificates for tests: for servers on the loopback interface and their clients.
// This package is not part of the public API and may change in any release.
package testcert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"

	"google.golang.org/grpc/credentials"
)

// early is how long before their creation certificates are valid, because clocks may differ.
const early = time.Hour

// Authority signs certificates. It is safe for concurrent use.
type Authority struct {
	// PEM is the authority's certificate. Pool contains it.
	PEM  []byte
	Pool *x509.CertPool

	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// New makes an authority that is valid for a day.
func New() (*Authority, error) {
	a := &Authority{Pool: x509.NewCertPool()}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	var err error
	if a.key, a.certificate, a.PEM, err = a.sign(template, 24*time.Hour); err != nil {
		return nil, err
	}
	a.Pool.AddCert(a.certificate)
	return a, nil
}

// Pair is a certificate with its key, as PEM.
type Pair struct {
	Certificate, Key []byte
	Serial           *big.Int
	Expires          time.Time
}

// Issue signs a certificate for 127.0.0.1, ::1 and localhost, with a lifetime.
func (a *Authority) Issue(lifetime time.Duration) (*Pair, error) {
	key, certificate, text, err := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		DNSNames: []string{"localhost"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{
			x509.ExtKeyUsageServerAuth,
			x509.ExtKeyUsageClientAuth,
		},
	}, lifetime)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return &Pair{
		Certificate: text, Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		Serial: certificate.SerialNumber, Expires: certificate.NotAfter,
	}, nil
}

// Server returns the credentials of a gRPC server with a new certificate, with a lifetime.
func (a *Authority) Server(lifetime time.Duration) (credentials.TransportCredentials, error) {
	pair, err := a.Issue(lifetime)
	if err != nil {
		return nil, err
	}
	certificate, err := tls.X509KeyPair(pair.Certificate, pair.Key)
	if err != nil {
		return nil, err
	}
	return credentials.NewServerTLSFromCert(&certificate), nil
}

// sign signs a certificate for a new key. An authority without a key signs its own.
func (a *Authority) sign(template *x509.Certificate, lifetime time.Duration) (*ecdsa.PrivateKey, *x509.Certificate,
	[]byte, error,
) {
	fail := func(err error) (*ecdsa.PrivateKey, *x509.Certificate, []byte, error) {
		return nil, nil, nil, fmt.Errorf("testcert: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fail(err)
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 64)); err != nil {
		return fail(err)
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-early), time.Now().Add(lifetime)
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return fail(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return fail(err)
	}
	return key, certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
