// Package redisacl holds the accounts that the Redis of a store has: users.acl, the file that its aclfile
// names. The documentation, docker-compose.yml and the tests take them from there.
//
// The file has the place of each password's hash. Redis does not start with one that was not filled in.
package redisacl

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
)

// The accounts. Each is named for the program that uses it: Operator is for `countersign store`, Replica
// and Sentinel are for Redis itself.
const (
	Authority = "authority"
	Validator = "validator"
	Operator  = "operator"
	Replica   = "replica"
	Sentinel  = "sentinel"
)

// users is the file. Redis allows no comments in it. The default user has all rights and nobody can
// authenticate as it: Redis 7.0 replays the append-only file with its rights, and drops every transaction
// that goes beyond them.
//
//go:embed users.acl
var users string

// place is where a password's hash goes.
var place = regexp.MustCompile(`#SHA256_OF_([A-Z]+)_PASSWORD`)

// File returns the file for the passwords of the accounts. It panics when an account has none.
func File(passwords map[string]string) string {
	return place.ReplaceAllStringFunc(users, func(found string) string {
		user := strings.ToLower(place.FindStringSubmatch(found)[1])
		password := passwords[user]
		if password == "" {
			panic(fmt.Sprintf("redisacl: no password for %s", user))
		}
		hash := sha256.Sum256([]byte(password))
		return "#" + hex.EncodeToString(hash[:])
	})
}

// Rules returns what an account may do, as rules of ACL SETUSER without the password. It panics for an
// account that is not in the file.
func Rules(user string) string {
	for line := range strings.Lines(users) {
		rules, found := strings.CutPrefix(strings.TrimSpace(line), "user "+user+" on ")
		if !found {
			continue
		}
		if at := place.FindStringIndex(rules); at != nil && at[0] == 0 {
			return strings.TrimSpace(rules[at[1]:])
		}
	}
	panic(fmt.Sprintf("redisacl: no account %s", user))
}
