package grpcserver

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/countersign/countersign/pkg/reload"
)

// TLS names PEM files. They are read when the server is built, and again when they change, if it is given
// Files. New connections get what was read last; those that are there go on.
type TLS struct {
	// CertFile holds the certificate chain, KeyFile its key. Either both are set or none: none means plain
	// text.
	CertFile, KeyFile string
	// ClientCAFile holds the authorities whose client certificates are accepted; it needs the other two.
	// Empty means that no client certificate is asked for.
	ClientCAFile string
	// RequireClientCert refuses connections without a client certificate; it needs ClientCAFile. Otherwise
	// a client may come without one, but not with one that does not verify.
	RequireClientCert bool
}

// config returns nil for plain text. The files are called name-cert-file and name-client-ca-file.
func (t TLS) config(files *reload.Files, name string, protocols ...string) (*tls.Config, error) {
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
	pair, err := reload.Read(files, name+"-cert-file", parsePair, t.CertFile, t.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("TLS certificate and key: %w", err)
	}
	config := &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: protocols,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair.Get().Certificate, nil },
	}
	if t.ClientCAFile == "" {
		return config, nil
	}
	authorities, err := reload.Read(files, name+"-client-ca-file", reload.Authorities, t.ClientCAFile)
	if err != nil {
		return nil, fmt.Errorf("TLS client authorities: %w", err)
	}
	config.ClientAuth = tls.VerifyClientCertIfGiven
	if t.RequireClientCert {
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	config.ClientCAs = authorities.Get()
	// A resumed session is not verified again: it would outlive the authority that it was verified with.
	config.SessionTicketsDisabled = true
	latest := config.Clone()
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		now := latest.Clone()
		now.ClientCAs = authorities.Get()
		return now, nil
	}
	return config, nil
}

// pair is a certificate chain with its key. The first certificate of the chain that is not good makes it
// worthless.
type pair struct {
	*tls.Certificate
	begins, expires time.Time
}

func parsePair(contents [][]byte) (pair, error) {
	chain, err := reload.Certificates(contents[0])
	if err != nil {
		return pair{}, err
	}
	certificate, err := tls.X509KeyPair(contents[0], contents[1])
	if err != nil {
		return pair{}, err
	}
	p := pair{Certificate: &certificate, begins: chain[0].NotBefore, expires: chain[0].NotAfter}
	for _, issuer := range chain[1:] {
		if issuer.NotBefore.After(p.begins) {
			p.begins = issuer.NotBefore
		}
		if issuer.NotAfter.Before(p.expires) {
			p.expires = issuer.NotAfter
		}
	}
	return p, nil
}

// Begins implements reload.Expirer.
func (p pair) Begins() time.Time { return p.begins }

// Expires implements reload.Expirer.
func (p pair) Expires() time.Time { return p.expires }

// LogValue shows what a person needs to tell two certificates apart.
func (p pair) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("subject", p.Leaf.Subject.String()), slog.String("serial", p.Leaf.SerialNumber.Text(16)),
		slog.Time("expires", p.expires.UTC()),
	)
}
