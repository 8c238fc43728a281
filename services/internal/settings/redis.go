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
//	redis://[user:password@]host:port/db                           one server; rediss for TLS, unix with a path
//	redis://host:port/db?master_name=NAME&addr=host:port...        sentinels; username and password of Redis as parameters
//	redis://[user:password@]host:port?cluster=true&addr=host:port  nodes of a cluster
//
// Its value is never part of an error or of the help text; to log it, use RedactURL.
func RedisURL(flags *pflag.FlagSet, name, value, usage string) *string {
	u := redisURL(value)
	flags.Var(&u, name, usage)
	return (*string)(&u)
}

type redisURL string

func (u *redisURL) hides() {}

// Type is how the help text calls the value.
func (u *redisURL) Type() string { return "url" }

// String returns what may be shown.
func (u *redisURL) String() string { return RedactURL(string(*u)) }

// Set's errors say nothing of the value. That is why url.Parse's are not passed on.
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

// publicParameters are those of a URL's query that RedactURL shows: which servers are meant, and nothing
// else.
var publicParameters = []string{"addr", "cluster", "db", "master_name"}

// RedactURL returns a URL in a form that may be logged: the password is replaced, and so is a user name
// that stands alone, since it may be a password given in the wrong place; of the query only addresses,
// master name and database are left. What is not clearly a URL is not shown at all: with a password that
// needed percent-encoding, its pieces can be anywhere.
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

// parsePlain tells whether all of the URL can be told apart. With more than one @ it cannot: characters in
// a password may have ended it early, and what follows, up to the last @, looks like a host, path, query or
// fragment.
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
