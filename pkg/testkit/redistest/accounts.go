package redistest

import (
	"testing"

	"github.com/countersign/countersign/deploy/redisacl"
)

// admin is the account of a server with accounts that may do everything. It is a test's, and not in
// users.acl.
const admin = "admin"

// StartWithAccounts starts a server as Start does, with the accounts of deploy/redisacl. The password of
// each is its name. Nobody comes in without one, also after a restart.
func StartWithAccounts(t testing.TB, args ...string) *Server {
	t.Helper()
	return launch(t, func(s *Server) {
		s.args = append(append(s.defaults(), s.withAccounts()...), args...)
	})
}

// withAccounts gives a server accounts, and returns the arguments of redis-server for them.
func (s *Server) withAccounts() []string {
	passwords := map[string]string{}
	for _, user := range []string{redisacl.Authority, redisacl.Validator, redisacl.Operator, redisacl.Replica,
		redisacl.Sentinel} {
		passwords[user] = user
	}
	s.admin = admin
	return []string{
		"--aclfile", s.write("users.acl", []string{redisacl.File(passwords) + "user " + admin + " on >" + admin + " ~* &* +@all"}),
		"--masteruser", redisacl.Replica, "--masterauth", redisacl.Replica,
	}
}

// URLFor returns the URL of the server's database 0 for one of its accounts, whose password is its name.
func (s *Server) URLFor(user string) string { return URL(s.Address(), user, user) }
