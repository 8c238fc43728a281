// Package client connects the command line to an authority or a validator. It finds the admin key, and
// explains why a server cannot be reached. This package is not part of the public API and may change in any
// release.
package client

import "github.com/countersign/countersign/pkg/grpcclient"

// Address is a flag for the host:port of a server.
type Address = grpcclient.Address

// Security says which connections use TLS.
type Security = grpcclient.Security

// ErrContradiction means that both TLS and plain text were requested.
var ErrContradiction = grpcclient.ErrContradiction
