package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/countersign/countersign/pkg/grpcclient"
	"github.com/countersign/countersign/pkg/reload"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/validator"
)

// fleetFlags are the flags that say where the validator reports.
type fleetFlags struct {
	authority   grpcclient.Address
	security    grpcclient.Security
	keyFile, id string
}

func (f *fleetFlags) define(flags *pflag.FlagSet) {
	flags.Var(
		&f.authority, "authority", "address of the authority to report to; receipts and healing need the reports (default none)",
	)
	flags.StringVar(&f.keyFile, "fleet-key-file", "", "`file` that holds a key of role validator, to report with")
	flags.BoolVar(&f.security.TLS, "authority-tls", false, "encrypt reports also on loopback; elsewhere it is the default")
	flags.StringVar(&f.security.CAFile, "authority-tls-ca-file", "",
		"PEM `file` of the certificate authorities for the authority's certificate (implies --authority-tls)")
	flags.BoolVar(&f.security.Plaintext, "authority-plaintext", false,
		"do not encrypt reports, wherever the authority is; others on the network can read the key")
	flags.StringVar(
		&f.id, "validator-id", "",
		"the validator's `name` in the fleet; no other validator may have it (default host name and port of --listen)",
	)
}

// config returns the configuration for a validator that listens on an address. The key and the certificate
// authorities are read again when their files change.
func (f *fleetFlags) config(listen string, files *reload.Files) (validator.Fleet, error) {
	c := validator.Fleet{Authority: f.authority, Security: f.security, ID: f.id}
	if f.authority == "" {
		if f.keyFile != "" {
			return c, errors.New("--fleet-key-file: there is no --authority to use it with")
		}
		return c, nil
	}
	if c.Security.TLS && c.Security.Plaintext {
		return c, errors.New("--authority-tls and --authority-plaintext contradict each other")
	}
	if c.ID == "" {
		host, err := os.Hostname()
		if err != nil {
			return c, fmt.Errorf("--validator-id: %w", err)
		}
		_, port, err := net.SplitHostPort(listen)
		if err != nil {
			return c, fmt.Errorf("--listen: %w", err)
		}
		c.ID = net.JoinHostPort(host, port)
	}
	if err := validator.CheckID(c.ID); err != nil {
		return c, fmt.Errorf("--validator-id: %w", err)
	}
	if c.Security.CAFile != "" && c.Security.Encrypts(c.Authority) {
		roots, err := reload.Read(files, "authority-tls-ca-file", reload.Authorities, c.Security.CAFile)
		if err != nil {
			return c, fmt.Errorf("--authority-tls-ca-file: %w", err)
		}
		c.Security.Roots = roots.Get
	}
	if f.keyFile != "" {
		key, err := reload.Read(files, "fleet-key-file", parseKey, f.keyFile)
		if err != nil {
			return c, fmt.Errorf("--fleet-key-file: %w", err)
		}
		c.Key, c.CurrentKey = key.Get(), key.Get
	}
	return c, nil
}

func parseKey(contents [][]byte) (secret.Secret, error) {
	text := strings.TrimSpace(string(contents[0]))
	if !secret.WellFormedAdminKey(text) {
		// The key is sent to the authority, so a wrong file must be rejected.
		return secret.Secret{}, fmt.Errorf("does not hold a key, which begins with %s", secret.AdminPrefix)
	}
	return secret.New(text), nil
}
