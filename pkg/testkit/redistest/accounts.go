package redistest

import (
	"testing"

	"github.com/countersign/countersign/deploy/redisacl"
)

// admin is an account with all rights, for tests only. It is not in users.acl.
const admin = "admin"

// StartWithAccounts is Start with the accounts of deploy/redisacl. The password of each account is its name.
// Nobody can log in without a password, also after a restart.
func StartWithAccounts(t testing.TB, args ...string) *Server {
	t.Helper()
	return launch(t, func(s *Server) {
		s.args = append(append(s.defaults(), s.withAccounts()...), args...)
	})
}

// withAccounts adds accounts to a server, and returns the arguments of redis-server for them.
func (s *Server) withAccounts() []string {
	passwords := map[string]string{}
	for _, user := range []string{
		redisacl.Authority, redisacl.Validator, redisacl.Operator, redisacl.Replica,
		redisacl.Sentinel,
	} {
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
