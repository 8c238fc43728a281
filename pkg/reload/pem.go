package reload

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// Authorities parses the contents of one PEM file of certificate authorities, for Read. It fails as
// Certificates does.
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

// Certificates returns the certificates of a PEM file (RFC 7468) in order. Blocks of other types, such as a
// key, may stand between them. It fails when there is no certificate, and when any block or certificate
// cannot be read. The parsers of the standard library skip such blocks: they would take a part of a list of
// authorities for the whole list.
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

// readBlocks returns all blocks of a PEM file. It compares their number with the number of lines that begin
// or end a block, because pem.Decode silently skips a damaged block. Either line may be the damaged one.
func readBlocks(data []byte) (blocks []*pem.Block, err error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		blocks = append(blocks, block)
	}
	want := max(bytes.Count(data, []byte("-----BEGIN ")), bytes.Count(data, []byte("-----END ")))
	if len(blocks) != want {
		return nil, fmt.Errorf("only %d of %d PEM blocks can be read: the file is cut or damaged", len(blocks), want)
	}
	return blocks, nil
}
