// Package redisacl holds users.acl, the file with the Redis accounts of a store, for Redis's setting aclfile.
// The documentation, docker-compose.yml and the tests use this file. This package is not part of the public
// API and may change in any release.
//
// The file has placeholders for the hashes of passwords. Redis does not start with a placeholder that was not
// filled in.
package redisacl

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
)

// The accounts. Each is named after the program that uses it: Operator is for `countersign store`, Replica
// and Sentinel are for Redis itself.
const (
	Authority = "authority"
	Validator = "validator"
	Operator  = "operator"
	Replica   = "replica"
	Sentinel  = "sentinel"
)

// users is the file. Redis allows no comments in it. The default user has all rights, and nobody can
// authenticate as it: Redis 7.0 replays the append-only file with its rights, and drops every transaction
// that exceeds them.
//
//go:embed users.acl
var users string

// placeholder matches the place for a password's hash.
var placeholder = regexp.MustCompile(`#SHA256_OF_([A-Z]+)_PASSWORD`)

// File returns the file with the given passwords, by account. It panics when an account has none.
func File(passwords map[string]string) string {
	return placeholder.ReplaceAllStringFunc(users, func(found string) string {
		user := strings.ToLower(placeholder.FindStringSubmatch(found)[1])
		password := passwords[user]
		if password == "" {
			panic(fmt.Sprintf("redisacl: no password for %s", user))
		}
		hash := sha256.Sum256([]byte(password))
		return "#" + hex.EncodeToString(hash[:])
	})
}

// Rules returns the rights of an account, as rules of ACL SETUSER without the password. It panics for an
// unknown account.
func Rules(user string) string {
	for line := range strings.Lines(users) {
		rules, found := strings.CutPrefix(strings.TrimSpace(line), "user "+user+" on ")
		if !found {
			continue
		}
		if at := placeholder.FindStringIndex(rules); at != nil && at[0] == 0 {
			return strings.TrimSpace(rules[at[1]:])
		}
	}
	panic(fmt.Sprintf("redisacl: no account %s", user))
}
