package redisfeed

import "testing"

// TestAddressesAsANodeTellsThem: a node that does not know its own address has the address at which it was
// asked (Redis, CLUSTER SLOTS).
func TestAddressesAsANodeTellsThem(t *testing.T) {
	for _, test := range []struct{ origin, told, want string }{
		{"10.0.0.1:7000", "10.0.0.2:7001", "10.0.0.2:7001"},
		{"10.0.0.1:7000", ":7001", "10.0.0.1:7001"},
		{"10.0.0.1:7000", "?:7001", "10.0.0.1:7001"},
		{"10.0.0.1:7000", "127.0.0.1:7001", "10.0.0.1:7001"},
		{"127.0.0.1:7000", "127.0.0.1:7001", "127.0.0.1:7001"},
		{"redis.example:7000", "10.0.0.2:0", "10.0.0.2:7000"},
		{"10.0.0.1:7000", ":0", "10.0.0.1:7000"},
		{"[fd00::1]:7000", "[::1]:7001", "[fd00::1]:7001"},
		{"10.0.0.1:7000", "no address", "no address"},
	} {
		if got := seenFrom(test.origin, test.told); got != test.want {
			t.Errorf("%s tells %s: %s, want %s", test.origin, test.told, got, test.want)
		}
	}
}
