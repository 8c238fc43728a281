package grpcserver

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// TLS names PEM files. They are read once, when the server is built.
type TLS struct {
	// CertFile holds the certificate chain, KeyFile its key. Either both are set or none: none means plain text.
	CertFile, KeyFile string
	// ClientCAFile holds the authorities whose client certificates are accepted; it needs the other two. Empty means
	// that no client certificate is asked for.
	ClientCAFile string
	// RequireClientCert refuses connections without a client certificate; it needs ClientCAFile. Otherwise a client may
	// come without one, but not with one that does not verify.
	RequireClientCert bool
}

// config returns nil for plain text.
func (t TLS) config() (*tls.Config, error) {
	switch {
	case (t.CertFile == "") != (t.KeyFile == ""):
		return nil, errors.New("TLS needs both a certificate file and a key file")
	case t.CertFile == "" && t.ClientCAFile != "":
		return nil, errors.New("TLS client authorities need a certificate file and a key file of the server")
	case t.RequireClientCert && t.ClientCAFile == "":
		return nil, errors.New("TLS client certificates need a file of client authorities")
	case t.CertFile == "":
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("TLS certificate and key: %w", err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if t.ClientCAFile == "" {
		return config, nil
	}
	pem, err := os.ReadFile(t.ClientCAFile)
	if err != nil {
		return nil, fmt.Errorf("TLS client authorities: %w", err)
	}
	config.ClientCAs = x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("TLS client authorities: no certificate in %s", t.ClientCAFile)
	}
	config.ClientAuth = tls.VerifyClientCertIfGiven
	if t.RequireClientCert {
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return config, nil
}
