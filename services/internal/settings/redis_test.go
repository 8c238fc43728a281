package settings

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"pgregory.net/rapid"
)

const hidden = "(not a plain URL, not shown)"

func TestRedactURL(t *testing.T) {
	for raw, want := range map[string]string{
		"":                                 "",
		"redis://localhost:6379":           "redis://localhost:6379",
		"redis://localhost:6379/2":         "redis://localhost:6379/2",
		"rediss://[::1]:6379":              "rediss://[::1]:6379",
		"unix:///run/redis.sock?db=1":      "unix:///run/redis.sock?db=1",
		"redis://:hunter2@host:6379":       "redis://:xxxxx@host:6379",
		"redis://me:hunter2@host:6379/0":   "redis://me:xxxxx@host:6379/0",
		"redis://me:hunt%40er2@host":       "redis://me:xxxxx@host",
		"redis://me:hunt:er2@host":         "redis://me:xxxxx@host",
		"redis://hunter2@host":             "redis://xxxxx@host",
		"redis://hunter2:@host":            "redis://xxxxx@host",
		"redis://h?addr=a:1&addr=b:2":      "redis://h?addr=a%3A1&addr=b%3A2",
		"redis://h?sentinel_password=hunt": "redis://h",
		"redis://h?cluster=true&addr=b:2":  "redis://h?addr=b%3A2&cluster=true",
		"redis://s:hunt@h?master_name=m&username=u&password=hunt2": "redis://s:xxxxx@h?master_name=m",
		"redis://h?master_name=m&PASS=h":                           "redis://h?master_name=m",
		"redis://me:hunt@er2@host":                                 hidden,
		"redis://me:hunt/er2@host":                                 hidden,
		"redis://me:12/er2@host":                                   hidden,
		"redis://me:12?er2@host":                                   hidden,
		"redis://me:12#er2@host":                                   hidden,
		"redis://me:12#hunter2":                                    hidden,
		"redis://me:hunt%er2@host":                                 hidden,
		"me:hunter2@host":                                          hidden,
		"host:6379":                                                hidden,
		"hunter2":                                                  hidden,
		"redis://":                                                 hidden,
		"redis://host/hunter2@":                                    hidden,
		":hunter2@host":                                            hidden,
		"redis://me:hunter2@ho st":                                 hidden,
	} {
		expect(t, "RedactURL of "+raw, RedactURL(raw), want)
	}
}

// TestRedisURLNamesWhatIsWrong: the error says what is wrong with the URL, and shows no part of it.
func TestRedisURLNamesWhatIsWrong(t *testing.T) {
	t.Setenv("COUNTERSIGN_REDIS_URL", "")
	for value, want := range map[string]string{
		"redis://me:hunter2@host/x":              "master_name=NAME",
		"redis://me:hunter2@host?addr=b":         "addr=host:port",
		"redis://me:hunter2@host?master_name=":   "master_name=NAME",
		"redis://me:hunter2@host?cluster=maybe":  "cluster=true",
		"redis://me:hunter2@host?max_retries=10": "no other parameters",
	} {
		_, err := run(command(func(flags *pflag.FlagSet) { RedisURL(flags, "redis-url", "", "the store") }), "--redis-url", value)
		if got := words(err); !strings.HasPrefix(got, "--redis-url: want ") || !strings.Contains(got, want) ||
			strings.Contains(got, "hunter2") {
			t.Errorf("%s: %s", value, got)
		}
	}
}

// TestRedactURLNeverShowsThePassword, whatever characters it has and however the URL is parsed.
func TestRedactURLNeverShowsThePassword(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		password := rapid.StringMatching(`[1-9@/?#:%&=+ .\[\]-]{0,8}QZ[1-9@/?#:%&=+ .\[\]-]{0,8}`).Draw(t, "password")
		user := rapid.SampledFrom([]string{"", "me"}).Draw(t, "user")
		rest := rapid.SampledFrom([]string{"host:6379", "host", "[::1]:6379/0", "host?addr=b"}).Draw(t, "rest")
		scheme := rapid.SampledFrom([]string{"redis://", "rediss://", "unix://", "", "//"}).Draw(t, "scheme")
		if got := RedactURL(scheme + user + ":" + password + "@" + rest); strings.Contains(strings.ToUpper(got), "QZ") {
			t.Fatalf("RedactURL = %q, which shows some of %q", got, password)
		}
	})
}

func TestRedisURL(t *testing.T) {
	const format = "want redis://, rediss:// or unix://, then [user:password@]host:port/db," +
		" with characters such as / ? # @ % in the password percent-encoded"
	for value, ok := range map[string]bool{
		"redis://localhost:6379":         true,
		"redis://me:hunter2@host:6379/0": true,
		"rediss://host:6379":             true,
		"unix:///run/redis.sock":         true,
		"redis://h?master_name=m&addr=b:26379&username=u&password=hunter2": true,
		"rediss://me:hunter2@h:7000?cluster=true&addr=b:7000":              true,
		"http://me:hunter2@host":                                           false,
		"redis://me:hunter2/@host":                                         false,
		"me:hunter2@host":                                                  false,
		"hunter2":                                                          false,
	} {
		for _, fromEnv := range []bool{false, true} {
			var got *string
			c := command(func(flags *pflag.FlagSet) {
				got = RedisURL(flags, "redis-url", "redis://:hunter2@default", "the store")
			})
			var err error
			from := "--redis-url"
			if fromEnv {
				from = "--redis-url (COUNTERSIGN_REDIS_URL)"
				t.Setenv("COUNTERSIGN_REDIS_URL", value)
				_, err = run(c)
			} else {
				t.Setenv("COUNTERSIGN_REDIS_URL", "")
				_, err = run(c, "--redis-url", value)
			}
			if ok {
				expect(t, "error", words(err), "")
				expect(t, "--redis-url", *got, value)
				continue
			}
			expect(t, "error of "+value, words(err), from+": "+format+" (value not shown)")
		}
	}
}

func TestRedisURLIsNotInHelp(t *testing.T) {
	t.Setenv("COUNTERSIGN_REDIS_URL", "redis://:hunter2@host")
	help, err := run(command(func(flags *pflag.FlagSet) {
		RedisURL(flags, "redis-url", "redis://:hunter2@default", "the store")
	}), "--redis-url=redis://:hunter2@host", "--help")
	if err != nil {
		t.Fatal(err)
	}
	const want = "--redis-url url   the store (env COUNTERSIGN_REDIS_URL) (default redis://:xxxxx@default)\n"
	if !strings.Contains(help, want) || strings.Contains(help, "hunter2") {
		t.Errorf("help = %s\nwant %s", help, want)
	}
}
