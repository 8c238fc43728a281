package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// Security says which connections are encrypted. With nothing set, those to other machines are, and those on loopback
// are not.
type Security struct {
	// TLS encrypts on loopback too.
	TLS bool
	// CAFile is a PEM file of the authorities that servers' certificates are checked against, instead of the system's.
	// It implies TLS.
	CAFile string
	// Plaintext encrypts nothing, wherever the server is.
	Plaintext bool
}

// ErrContradiction says that TLS and plain text were asked for.
var ErrContradiction = errors.New("--tls and --plaintext contradict each other")

// Encrypts tells whether a connection to an address is encrypted.
func (s Security) Encrypts(a Address) bool {
	return !s.Plaintext && (s.TLS || s.CAFile != "" || !a.Loopback())
}

func (s Security) credentials(a Address) (credentials.TransportCredentials, error) {
	if s.TLS && s.Plaintext {
		return nil, ErrContradiction
	}
	if !s.Encrypts(a) {
		return insecure.NewCredentials(), nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.CAFile != "" {
		pem, err := os.ReadFile(s.CAFile)
		if err != nil {
			return nil, fmt.Errorf("--tls-ca-file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--tls-ca-file: no certificate in %s", s.CAFile)
		}
	}
	return credentials.NewTLS(config), nil
}
