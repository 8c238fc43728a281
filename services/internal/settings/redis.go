package settings

import (
	"errors"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/countersign/countersign/pkg/redisfeed"
)

// RedisURL defines a flag for the URL of a Redis, which may hold a password:
//
//	redis://[user:password@]host:port/db                           one server
//	redis://host:port/db?master_name=NAME&addr=host:port...        sentinels
//	redis://[user:password@]host:port?cluster=true&addr=host:port  nodes of a cluster
//
// The scheme rediss stands for TLS, and unix for a path. With sentinels, the parameters username and password
// are those of Redis.
//
// Errors and help texts never contain the value. To log it, use RedactURL.
func RedisURL(flags *pflag.FlagSet, name, value, usage string) *string {
	u := redisURL(value)
	flags.Var(&u, name, usage)
	return (*string)(&u)
}

type redisURL string

func (u *redisURL) hides() {}

// Type returns the placeholder of the value in help texts.
func (u *redisURL) Type() string { return "url" }

// String returns the URL without credentials.
func (u *redisURL) String() string { return RedactURL(string(*u)) }

// Set parses a URL. Its errors contain no part of the value, so it does not pass on the errors of url.Parse.
func (u *redisURL) Set(value string) error {
	parsed, plain := parsePlain(value)
	if !plain || !slices.Contains([]string{"redis", "rediss", "unix"}, parsed.Scheme) {
		return errors.New("want redis://, rediss:// or unix://, then [user:password@]host:port/db," +
			" with characters such as / ? # @ % in the password percent-encoded")
	}
	if err := redisfeed.CheckURL(value); err != nil {
		return err
	}
	*u = redisURL(value)
	return nil
}

// publicParameters are the query parameters that RedactURL keeps: they name servers, and nothing else.
var publicParameters = []string{"addr", "cluster", "db", "master_name"}

// RedactURL returns a URL that may be logged. It replaces the password, and also a user name without a
// password, which may be a misplaced password. Of the query it keeps only addresses, master name and
// database. A text that is not clearly a URL is not shown at all: parts of a password that needed
// percent-encoding can be anywhere in it.
func RedactURL(raw string) string {
	if raw == "" {
		return ""
	}
	u, plain := parsePlain(raw)
	if !plain {
		return "(not a plain URL, not shown)"
	}
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	if u.User != nil {
		shown.User = url.User("xxxxx")
		if password, _ := u.User.Password(); password != "" {
			shown.User = url.UserPassword(u.User.Username(), "xxxxx")
		}
	}
	query := u.Query()
	for key := range query {
		if !slices.Contains(publicParameters, key) {
			query.Del(key)
		}
	}
	shown.RawQuery = query.Encode()
	return shown.String()
}

// parsePlain reports whether the parts of a URL can be told apart. With more than one @ they cannot:
// characters in a password may have ended it early, and the rest, up to the last @, looks like a host, path,
// query or fragment.
func parsePlain(raw string) (u *url.URL, plain bool) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, false
	}
	at := strings.Count(raw, "@")
	plain = u.Scheme != "" && u.Opaque == "" && (u.Host != "" || u.Path != "") && !strings.Contains(raw, "#") &&
		(at == 0 || at == 1 && u.User != nil)
	return u, plain
}
