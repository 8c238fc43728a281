package grpcserver

import (
	"errors"
	"net"
)

// listen binds a TCP port. An empty address is an error, because net.Listen takes it for any free port on
// every interface.
func listen(address string) (net.Listener, error) {
	if address == "" {
		return nil, errors.New("no address to listen on: want host:port")
	}
	return net.Listen("tcp", address)
}
