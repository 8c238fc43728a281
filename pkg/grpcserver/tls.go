package grpcserver

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/countersign/countersign/pkg/reload"
)

// TLS names the PEM files of a server. They are read when the server is built and, with Config.Files,
// whenever they change. A change applies to new connections; open ones go on.
type TLS struct {
	// CertFile holds the certificate chain, KeyFile its private key. Set both, or none for plain text.
	CertFile, KeyFile string
	// ClientCAFile holds the certificates of the authorities that sign client certificates. It needs
	// CertFile. Empty means that the server asks for no client certificate.
	ClientCAFile string
	// RequireClientCert rejects connections without a client certificate. It needs ClientCAFile. When it is
	// false, a client may have none, but a certificate that it shows must verify.
	RequireClientCert bool
}

// config returns the configuration of a listener; nil for plain text. In logs and metrics the files are
// called name-cert-file and name-client-ca-file.
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
	// Go does not verify the client certificate of a resumed session again. Tickets would let a client in
	// after its authority was taken out of the file.
	config.SessionTicketsDisabled = true
	latest := config.Clone()
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		now := latest.Clone()
		now.ClientCAs = authorities.Get()
		return now, nil
	}
	return config, nil
}

// pair is a certificate chain with its private key. It is valid while all certificates of the chain are.
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

// LogValue implements slog.LogValuer. It distinguishes two certificates and
// shows nothing of the key.
func (p pair) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("subject", p.Leaf.Subject.String()), slog.String("serial", p.Leaf.SerialNumber.Text(16)),
		slog.Time("expires", p.expires.UTC()),
	)
}
