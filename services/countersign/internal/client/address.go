// Package client connects the command line to an authority or a validator: where the admin key comes from,
// and what to say when nothing answers.
package client

import "github.com/countersign/countersign/pkg/grpcclient"

// Address is a flag for the host:port of a server.
type Address = grpcclient.Address

// Security says which connections are encrypted.
type Security = grpcclient.Security

// ErrContradiction says that TLS and plain text were asked for.
var ErrContradiction = grpcclient.ErrContradiction
