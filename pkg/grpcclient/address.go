// Package grpcclient decides which connections of Countersign's clients are encrypted, and makes sure that
// none of them sends its key over a connection that should be encrypted and is not. pkg/client, the fleet
// reports of pkg/validator and the command line use it.
//
// An embedder of pkg/validator sets Security and Address in its configuration. Everything else may change in
// any release.
package grpcclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// Address is the host:port of a server. It implements pflag.Value, which checks it.
type Address string

// Type returns what the help text calls the value. It implements pflag.Value.
func (*Address) Type() string { return "host:port" }

// String implements pflag.Value.
func (a *Address) String() string { return string(*a) }

// Set checks and sets the address. It fails unless text has a host and a port from 1 to 65535. It implements
// pflag.Value.
func (a *Address) Set(text string) error {
	host, port, err := net.SplitHostPort(text)
	if err != nil || host == "" {
		return errors.New("want host:port, such as localhost:7070")
	}
	if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
		return errors.New("the port is not a number from 1 to 65535")
	}
	*a = Address(text)
	return nil
}

// Host returns the address without its port.
func (a Address) Host() string {
	host, _, _ := net.SplitHostPort(string(a)) // Set has checked it
	return host
}

// Loopback reports whether the host is localhost (RFC 6761, section 6.3) or a loopback IP address. Other
// names are not resolved, because their addresses may change.
func (a Address) Loopback() bool {
	ip, err := netip.ParseAddr(a.Host())
	return a.Host() == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// Target returns the address as a target of grpc.NewClient, which resolves its name with DNS.
func (a Address) Target() string { return "dns:///" + string(a) }

// Dial opens a TCP connection to resolved, an IP address and port of the host of a. It gives up when ctx
// ends. It fails when plain text would go to another machine, because a resolver may give localhost any
// address; with Plaintext it does not check that.
func (s Security) Dial(ctx context.Context, a Address, resolved string) (net.Conn, error) {
	if !s.Plaintext && !s.Encrypts(a) {
		if at, err := netip.ParseAddrPort(resolved); err != nil || !at.Addr().Unmap().IsLoopback() {
			return nil, fmt.Errorf("%s resolves to %s, which is not a loopback address: ask for TLS or for plain text", a, resolved)
		}
	}
	return new(net.Dialer).DialContext(ctx, "tcp", resolved)
}
