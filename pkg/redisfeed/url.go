package redisfeed

import (
	"crypto/tls"
	"errors"
	"net/url"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	// dialTimeout, ioTimeout and poolTimeout bound each step of a command, so that a half-open connection is
	// noticed within seconds.
	dialTimeout = time.Second
	ioTimeout   = 2 * time.Second
	poolTimeout = 2 * time.Second
)

// kind is one of the three ways to run Redis.
type kind int

const (
	oneServer kind = iota
	underSentinel
	inCluster
)

// target is what a URL names.
type target struct {
	kind kind
	// server is how to connect to a server with data. Its address is known only for oneServer.
	server redis.Options
	// sentinel is how to connect to a sentinel.
	sentinel redis.Options
	// seeds are the addresses in the URL: of sentinels, or of nodes of the cluster.
	seeds      []string
	masterName string
}

var (
	errURL = errors.New("want redis://[user:password@]host:port/db, rediss:// or unix://;" +
		" for Sentinel its first host:port and ?master_name=NAME&addr=host:port for each other sentinel;" +
		" for a cluster one node and ?cluster=true or &addr=host:port for other nodes")
	errParameter = errors.New("want no other parameters of a Redis URL than db, protocol and, with rediss, skip_verify=true;" +
		" with master_name also addr, username and password; for a cluster cluster=true and addr, not db")
)

// parameters are the ones that a URL may have. All other settings are fixed.
var parameters = map[kind][]string{
	oneServer:     {"db", "protocol", "skip_verify"},
	underSentinel: {"addr", "db", "master_name", "password", "protocol", "skip_verify", "username"},
	inCluster:     {"addr", "cluster", "protocol", "skip_verify"},
}

// CheckURL returns what is wrong with the URL of a store; nil if Open accepts it. Its errors do not hold the
// URL, which may have a password.
func CheckURL(raw string) error {
	_, err := parseURL(raw)
	return err
}

// parseURL parses the URL of a store. Its errors do not hold the URL, which may have a password.
func parseURL(raw string) (*target, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Fragment != "" || u.Scheme != "unix" && u.Host == "" {
		return nil, errURL
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errURL
	}
	t := &target{}
	switch {
	case query.Has("master_name"):
		t.kind = underSentinel
	case query.Has("cluster") || query.Has("addr"):
		t.kind = inCluster
	}
	for name := range query {
		if !slices.Contains(parameters[t.kind], name) {
			return nil, errParameter
		}
	}
	if t.kind == inCluster {
		if query.Has("cluster") && query.Get("cluster") != "true" || u.Path != "" && u.Path != "/" && u.Path != "/0" {
			return nil, errURL
		}
		query.Del("cluster")
	}
	skip := query["skip_verify"]
	query.Del("skip_verify") // go-redis knows it for two of the kinds only
	u.RawQuery = query.Encode()
	if err := t.read(u.String()); err != nil || t.kind == underSentinel && t.masterName == "" {
		return nil, errURL
	}
	if skip != nil && (t.server.TLSConfig == nil || len(skip) > 1 || skip[0] != "true") {
		return nil, errParameter
	}
	if t.server.TLSConfig != nil {
		t.server.TLSConfig.MinVersion, t.server.TLSConfig.InsecureSkipVerify = tls.VersionTLS12, skip != nil
	}
	limit(&t.server)
	limit(&t.sentinel)
	return t, nil
}

func (t *target) read(raw string) error {
	switch t.kind {
	case underSentinel:
		o, err := redis.ParseFailoverURL(raw)
		if err != nil {
			return err
		}
		t.seeds, t.masterName = o.SentinelAddrs, o.MasterName
		t.server = redis.Options{
			Username: o.Username, Password: o.Password, DB: o.DB, Protocol: o.Protocol,
			TLSConfig: o.TLSConfig,
		}
		t.sentinel = redis.Options{
			Username: o.SentinelUsername, Password: o.SentinelPassword, Protocol: o.Protocol,
			TLSConfig: o.TLSConfig,
		}
	case inCluster:
		o, err := redis.ParseClusterURL(raw)
		if err != nil {
			return err
		}
		t.seeds = o.Addrs
		t.server = redis.Options{Username: o.Username, Password: o.Password, Protocol: o.Protocol, TLSConfig: o.TLSConfig}
	default:
		o, err := redis.ParseURL(raw)
		if err != nil {
			return err
		}
		t.server = *o
	}
	return nil
}

// limit sets every timeout, and turns retries off. A command that is repeated without the caller's knowledge
// would break the guarantee of a commit.
func limit(o *redis.Options) {
	o.DialTimeout = dialTimeout
	o.ReadTimeout = ioTimeout
	o.WriteTimeout = ioTimeout
	o.PoolTimeout = poolTimeout
	o.ContextTimeoutEnabled = true
	o.MaxRetries = -1
	o.DialerRetries = 1
	o.DisableIdentity = true
	o.PipelinePoolSize = -1 // no second pool, whose buffers take 256 KB for each connection
}

// at returns a copy of the options for another address. An empty address changes nothing.
func at(o redis.Options, address string) *redis.Options {
	if address != "" {
		o.Addr = address
	}
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return &o
}
