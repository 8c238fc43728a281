// Package client connects the command line to an authority or a validator: which connections are encrypted, where the
// admin key comes from and where it may go, and what to say when nothing answers.
package client

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
)

// Address is a flag for the host:port of a server.
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

// Loopback tells whether the address is one of this machine by what it says: localhost (RFC 6761, section 6.3) or a
// loopback IP address. Other names are not looked up: who answers for them may change.
func (a Address) Loopback() bool {
	ip, err := netip.ParseAddr(a.Host())
	return a.Host() == "localhost" || err == nil && ip.Unmap().IsLoopback()
}
