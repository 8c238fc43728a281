package grpcserver

import (
	"errors"
	"net"
)

// listen binds a port. An empty address is an error: for net.Listen it means any port of any interface.
func listen(address string) (net.Listener, error) {
	if address == "" {
		return nil, errors.New("no address to listen on")
	}
	return net.Listen("tcp", address)
}
