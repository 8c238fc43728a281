package reload

import (
	"bytes"
	"crypto/x509"
	"errors"
)

// Authorities reads the contents of one PEM file of certificates that others are checked against.
func Authorities(contents [][]byte) (*x509.CertPool, error) {
	if err := WholePEM(contents[0]); err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(contents[0]) {
		return nil, errors.New("no certificate in it")
	}
	return pool, nil
}

// WholePEM returns an error when the last block of a PEM file has no end. Parsers take that for the end of the file: half
// of a list of authorities would pass for the list.
func WholePEM(data []byte) error {
	if bytes.Count(data, []byte("-----BEGIN ")) != bytes.Count(data, []byte("-----END ")) {
		return errors.New("a block of PEM has no end: the file was cut")
	}
	return nil
}
