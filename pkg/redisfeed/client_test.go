package redisfeed_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
)

// TestURLs of every kind, and URLs that Open rejects.
func TestURLs(t *testing.T) {
	for url, want := range map[string]string{
		"redis://host": "", "redis://host:6379/2": "", "redis://user:pass@host:6379/0": "", "redis://host?db=1": "",
		"rediss://host:6379?skip_verify=true": "", "redis://[::1]:6379": "", "redis://host?protocol=2": "",
		"unix:///run/redis.sock": "", "unix://user:pass@/run/redis.sock?db=3": "",

		"redis://host:26379?master_name=m":                                        "",
		"redis://host:26379/1?master_name=m&addr=b:26379&addr=c:26379":            "",
		"rediss://sentinel:pass@host?master_name=m&username=u&password=p":         "",
		"redis://host?cluster=true":                                               "",
		"redis://host:7000/0?addr=b:7000&addr=c:7000":                             "",
		"rediss://user:pass@host:7000/?cluster=true&addr=b:7000&skip_verify=true": "",

		"": "want redis://", "host": "want redis://", "redis:host": "want redis://", "redis://": "want redis://",
		"redis:///0": "want redis://", "http://host": "want redis://", "redis://host/x": "want redis://",
		"redis://host/1/2": "want redis://", "redis://host#x": "want redis://", "redis://host?db=x": "want redis://",
		"unix://": "want redis://", "redis://host?%zz=1": "want redis://",
		"redis://host?master_name=": "want redis://", "unix:///s?master_name=m": "want redis://",
		"redis://host?master_name=m&addr=b": "want redis://",
		"redis://host?cluster=yes":          "want redis://", "redis://host?cluster=": "want redis://",
		"redis://host/1?cluster=true": "want redis://",
		"redis://host?addr=b":         "want redis://", "unix:///s?cluster=true": "want redis://",
		"redis://host?max_retries=3": "want no other parameters", "redis://host?read_timeout=1h": "want no other parameters",
		"redis://host?username=u": "want no other parameters", "redis://host?cluster=true&db=1": "want no other parameters",
		"redis://host?addr=b:1&read_only=true":                        "want no other parameters",
		"redis://host?master_name=m&replica_only=true":                "want no other parameters",
		"redis://host?master_name=m&cluster=true":                     "want no other parameters",
		"redis://host?cluster=true&max_redirects=9&password=hunter2":  "want no other parameters",
		"redis://host?master_name=m&route_by_latency=true":            "want no other parameters",
		"redis://host?master_name=m&sentinel_password=hunter2&addr=b": "want no other parameters",
	} {
		client, err := redisfeed.Open(url, redisfeed.Options{})
		if err == nil {
			_ = client.Close()
			err = errors.New("")
		}
		if got := err.Error(); want == "" && got != "" || !strings.HasPrefix(got, want) || strings.Contains(got, "hunter2") {
			t.Errorf("%s: %q, want %q...", url, got, want)
		}
	}
	if _, err := redisfeed.Open("redis://host", redisfeed.Options{WriteQuorum: -1}); err == nil {
		t.Error("a negative write quorum")
	}
}

func TestNotRunTellsWhatMayBeSentAgain(t *testing.T) {
	for _, refused := range []string{
		"MOVED 1 a:1", "ASK 1 a:1", "TRYAGAIN Multiple keys", "CLUSTERDOWN The cluster is down", "LOADING Redis is loading",
		"READONLY You can't write", "MASTERDOWN Link with MASTER is down", "BUSY Redis is busy",
	} {
		if err := fmt.Errorf("commit: %w", reply(refused)); !redisfeed.NotRun(err) {
			t.Errorf("%v", err)
		}
	}
	for _, err := range []error{
		nil, io.EOF, context.DeadlineExceeded, redis.Nil, reply("ERR unknown"), reply("NOPERM no"),
		reply("OOM command not allowed"),
		reply("MISCONF x"), &net.OpError{Op: "read", Err: io.EOF}, &net.OpError{Op: "write", Err: io.EOF}, redisfeed.ErrNotProven,
	} {
		if redisfeed.NotRun(err) {
			t.Errorf("%v", err)
		}
	}
	stopped := redistest.Start(t)
	stopped.Stop()
	for _, url := range []string{stopped.URL(), stopped.URL() + "?master_name=m", stopped.URL() + "?cluster=true"} {
		client := open(t, url)
		if err := client.OnMaster(limited(t), "key",
			func(c *redis.Conn) error { return c.Ping(t.Context()).Err() }); !redisfeed.NotRun(err) {
			t.Errorf("%s, which nobody listens to: %v", url, err)
		}
	}
}

// reply is an error in an answer from Redis.
type reply string

func (r reply) Error() string { return string(r) }
func (reply) RedisError()     {}

// TestNothingIsSentTwice: no client of any kind repeats a command whose answer or connection is lost.
func TestNothingIsSentTwice(t *testing.T) {
	everyKind(t, patient, func(t *testing.T, g group) {
		network := g.proxied(t)
		for _, s := range g.servers {
			if _, err := s.Do("ACL", "SETUSER", "tested", "on", ">tested", "~*", "&*", "+@all"); err != nil {
				t.Fatal(err)
			}
		}
		for name, send := range map[string]func(ctx context.Context, c *redisfeed.Client, key string) error{
			"command": func(ctx context.Context, c *redisfeed.Client, key string) error { return c.Incr(ctx, key).Err() },
			"script": func(ctx context.Context, c *redisfeed.Client, key string) error {
				return c.Eval(ctx, "return redis.call('INCR', KEYS[1])", []string{key}).Err()
			},
			"pipeline": func(ctx context.Context, c *redisfeed.Client, key string) error {
				_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, key); return nil })
				return err
			},
			"transaction": func(ctx context.Context, c *redisfeed.Client, key string) error {
				_, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, key); return nil })
				return err
			},
			"OnMaster": func(ctx context.Context, c *redisfeed.Client, key string) error {
				return c.OnMaster(ctx, key, func(c *redis.Conn) error { return c.Incr(ctx, key).Err() })
			},
		} {
			for _, cut := range []bool{false, true} {
				key := fmt.Sprintf("{%s}%v", name, cut)
				client := open(t, g.urlFor("tested", "tested"))
				if err := client.Get(limited(t), key).Err(); !errors.Is(err, redis.Nil) {
					t.Fatal(err)
				}
				if err := client.OnMaster(limited(t), key, func(c *redis.Conn) error { return c.Ping(t.Context()).Err() }); err != nil {
					t.Fatal(err)
				}
				network.each((*redistest.Proxy).SwallowReplies)
				// Long enough for a busy machine to send the command, and for the server to run it.
				ctx, cancel := context.WithTimeout(t.Context(), 750*time.Millisecond)
				if cut {
					time.AfterFunc(250*time.Millisecond, func() {
						network.each((*redistest.Proxy).Cut)
						network.each((*redistest.Proxy).Restore)
					})
				}
				err := send(ctx, client, key)
				cancel()
				network.each((*redistest.Proxy).Restore)
				if err == nil || redisfeed.NotRun(err) {
					t.Errorf("%s, whose answer is lost: %v", key, err)
				}
				admin := open(t, g.urlFor("", ""))
				// Once the master has no connection of the client, it has run everything that came over them.
				_ = client.Close()
				check.Eventually(t, "the end of the client's connections", func() error {
					return admin.OnMaster(t.Context(), key, func(c *redis.Conn) error {
						if list, err := c.ClientList(t.Context()).Result(); err != nil || strings.Contains(list, "user=tested ") {
							return fmt.Errorf("they are there, or it is not known: %w", err)
						}
						return nil
					})
				})
				var n int
				check.Eventually(t, "reading", func() (err error) {
					n, err = admin.Get(t.Context(), key).Int()
					return err
				})
				_ = admin.Close()
				if n != 1 {
					t.Errorf("%s was run %d times", key, n)
				}
			}
		}
	})
}
