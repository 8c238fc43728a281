// Package grpcclient is what every client of Countersign needs of a connection that carries a key: which
// ones are encrypted, and that no key goes over another.
package grpcclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// Address is the host:port of a server. It is a flag's value, too.
type Address string

// Type is how the help text calls the value.
func (*Address) Type() string { return "host:port" }

// String returns the address.
func (a *Address) String() string { return string(*a) }

// Set takes an address.
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
	host, _, _ := net.SplitHostPort(string(a)) // Set has looked
	return host
}

// Loopback tells whether the address is one of this machine by what it says: localhost (RFC 6761, section
// 6.3) or a loopback IP address. Other names are not looked up: who answers for them may change.
func (a Address) Loopback() bool {
	ip, err := netip.ParseAddr(a.Host())
	return a.Host() == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// Target returns the address in the form that grpc.NewClient wants.
func (a Address) Target() string { return "dns:///" + string(a) }

// Dial opens a connection to one of the places that the address stands for. What localhost means is up to
// the resolver: plain text does not leave the machine unless Plaintext says so.
func (s Security) Dial(ctx context.Context, a Address, resolved string) (net.Conn, error) {
	if !s.Plaintext && !s.Encrypts(a) {
		if at, err := netip.ParseAddrPort(resolved); err != nil || !at.Addr().Unmap().IsLoopback() {
			return nil, fmt.Errorf("%s is %s, which is not a loopback address: ask for TLS or for plain text", a, resolved)
		}
	}
	return new(net.Dialer).DialContext(ctx, "tcp", resolved)
}
