package grpcclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/countersign/countersign/pkg/reload"
	"github.com/countersign/countersign/pkg/secret"
)

// Security says which connections are encrypted. The zero value encrypts connections to other machines, and
// does not encrypt connections on loopback. It is safe for concurrent use as long as nobody changes it.
type Security struct {
	// TLS encrypts connections on loopback too.
	TLS bool
	// CAFile is a PEM file of the authorities that must have signed a server's certificate, instead of the
	// system's authorities. It implies TLS.
	CAFile string
	// Roots returns the present authorities of CAFile for a caller that reloads the file. When it is nil,
	// Credentials reads the file.
	Roots func() *x509.CertPool
	// Plaintext encrypts no connection, also not to other machines. It contradicts TLS.
	Plaintext bool
}

// ErrContradiction is the error of Credentials when both TLS and Plaintext are set.
var ErrContradiction = errors.New("TLS and plain text contradict each other")

// Encrypts reports whether a connection to an address is encrypted.
func (s Security) Encrypts(a Address) bool {
	return !s.Plaintext && (s.TLS || s.CAFile != "" || !a.Loopback())
}

// Credentials returns the transport credentials for connections to an address. They hold the authorities of
// CAFile at this moment; a later change of the file needs new credentials. It fails with ErrContradiction,
// or when CAFile cannot be read.
func (s Security) Credentials(a Address) (credentials.TransportCredentials, error) {
	if s.TLS && s.Plaintext {
		return nil, ErrContradiction
	}
	if !s.Encrypts(a) {
		return insecure.NewCredentials(), nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	switch {
	case s.Roots != nil:
		config.RootCAs = s.Roots()
	case s.CAFile != "":
		roots, err := reload.Read(nil, "authorities", reload.Authorities, s.CAFile)
		if err != nil {
			return nil, err
		}
		config.RootCAs = roots.Get()
	}
	return credentials.NewTLS(config), nil
}

// Bearer returns credentials that send a key with every call to an address (RFC 6750, section 2.1). grpc
// fails the call instead when the connection should be encrypted and is not.
func (s Security) Bearer(key secret.Secret, a Address) credentials.PerRPCCredentials {
	return bearer{key: key, encrypted: s.Encrypts(a)}
}

type bearer struct {
	key       secret.Secret
	encrypted bool
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + b.key.Reveal()}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (b bearer) RequireTransportSecurity() bool { return b.encrypted }

// AnswersPlain reports whether a TLS connection has failed because the server answers in plain text. It
// compares the text of the error, because grpc passes on nothing else.
func AnswersPlain(err error) bool {
	return err != nil && strings.Contains(err.Error(), "first record does not look like a TLS handshake") // crypto/tls
}

// WantsTLS reports whether a plain text connection has failed as it does when the server wants TLS. Such a
// server closes a connection that does not begin with a handshake, so the client gets no HTTP/2 preface.
func WantsTLS(err error) bool {
	return err != nil && strings.Contains(err.Error(), "error reading server preface") // grpc
}
