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

// Security says which connections are encrypted. With nothing set, those to other machines are, and those
// on loopback are not.
type Security struct {
	// TLS encrypts on loopback too.
	TLS bool
	// CAFile is a PEM file of the authorities that servers' certificates are checked against, instead of
	// the system's. It implies TLS.
	CAFile string
	// Roots returns the authorities of CAFile as they are now, where somebody keeps them; nil: Credentials
	// reads the file.
	Roots func() *x509.CertPool
	// Plaintext encrypts nothing, wherever the server is.
	Plaintext bool
}

// ErrContradiction says that TLS and plain text were asked for.
var ErrContradiction = errors.New("TLS and plain text contradict each other")

// Encrypts tells whether a connection to an address is encrypted.
func (s Security) Encrypts(a Address) bool {
	return !s.Plaintext && (s.TLS || s.CAFile != "" || !a.Loopback())
}

// Credentials returns what a connection to an address is secured with. Of a CAFile that changes it has what
// stands there now.
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

// Bearer returns what sends a key with every call to an address (RFC 6750, section 2.1). Where the
// connection was to be encrypted and is not, grpc refuses to send it.
func (s Security) Bearer(key secret.Secret, a Address) credentials.PerRPCCredentials {
	return bearer{key: key, encrypted: s.Encrypts(a)}
}

type bearer struct {
	key       secret.Secret
	encrypted bool
}

// GetRequestMetadata returns the metadata of one call.
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + b.key.Reveal()}, nil
}

// RequireTransportSecurity tells grpc whether the key may go over plain text.
func (b bearer) RequireTransportSecurity() bool { return b.encrypted }

// AnswersPlain tells whether a connection with TLS has failed since the server answers in plain text. grpc
// passes on nothing but the words of the error.
func AnswersPlain(err error) bool {
	return err != nil && strings.Contains(err.Error(), "first record does not look like a TLS handshake") // crypto/tls
}

// WantsTLS tells whether a connection in plain text has failed as it does when the server wants TLS: it
// ends the connection that does not begin with a handshake, so that no answer to the preface comes.
func WantsTLS(err error) bool {
	return err != nil && strings.Contains(err.Error(), "error reading server preface") // grpc
}
