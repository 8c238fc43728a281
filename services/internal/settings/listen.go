package settings

import (
	"errors"
	"net"
	"net/netip"
	"regexp"
	"strconv"

	"github.com/spf13/pflag"
)

// Listen defines a flag for an address to listen on: host:port, where an empty host means every interface.
// The host may be a name; listening fails later when it is not one of this machine.
func Listen(flags *pflag.FlagSet, name, value, usage string) *string {
	l := listen(value)
	flags.Var(&l, name, usage)
	return (*string)(&l)
}

type listen string

// Type returns the placeholder of the value in help texts.
func (l *listen) Type() string { return "host:port" }

// String returns the address.
func (l *listen) String() string { return string(*l) }

// hostName matches names that may be resolved. A text that is no name either is most likely a URL.
var hostName = regexp.MustCompile(`^[0-9A-Za-z_]([0-9A-Za-z_.-]*[0-9A-Za-z_])?$`)

// Set parses an address.
func (l *listen) Set(value string) error {
	host, port, err := net.SplitHostPort(value)
	if err != nil {
		return errors.New("want host:port, such as 127.0.0.1:7070, [::1]:7070, or :7070 for every interface")
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" && !hostName.MatchString(host) {
		return errors.New("the host is neither an IP address nor a name")
	}
	if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
		return errors.New("the port is not a number from 1 to 65535")
	}
	*l = listen(value)
	return nil
}
