package reload

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// Authorities reads the contents of one PEM file of certificates that others are checked against.
func Authorities(contents [][]byte) (*x509.CertPool, error) {
	certificates, err := Certificates(contents[0])
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, certificate := range certificates {
		pool.AddCert(certificate)
	}
	return pool, nil
}

// Certificates returns the certificates of a PEM file in their order. Other blocks, such as a key, may
// stand between them. A file without a certificate, and one with a block or a certificate that cannot be
// read, are errors: the parsers of the standard library skip what they cannot read, so that half of a list
// of authorities would pass for the list.
func Certificates(data []byte) (certificates []*x509.Certificate, err error) {
	blocks, err := readBlocks(data)
	if err != nil {
		return nil, err
	}
	for i, block := range blocks {
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("PEM block %d: %w", i+1, err)
		}
		certificates = append(certificates, certificate)
	}
	if len(certificates) == 0 {
		return nil, errors.New("no certificate in it")
	}
	return certificates, nil
}

// readBlocks returns all blocks of a PEM file. pem.Decode skips a damaged block without a word, so the
// blocks are counted. Ends count too: the line that begins a block may be the damaged one.
func readBlocks(data []byte) (blocks []*pem.Block, err error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		blocks = append(blocks, block)
	}
	want := max(bytes.Count(data, []byte("-----BEGIN ")), bytes.Count(data, []byte("-----END ")))
	if len(blocks) != want {
		return nil, fmt.Errorf("only %d of %d PEM blocks can be read: the file was cut or damaged", len(blocks), want)
	}
	return blocks, nil
}
