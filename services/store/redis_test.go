package store_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/check"
)

// patience bounds every wait for another process or goroutine. A busy machine with the race detector is slow.
const patience = 30 * time.Second

// redisClient is the test's own client, made as the product makes it.
func redisClient(t testing.TB, url string) *redisfeed.Client {
	t.Helper()
	client, err := redisfeed.Open(url, redisfeed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// info returns a field of Redis's INFO; empty when it is missing.
func info(t testing.TB, client *redisfeed.Client, section, field string) string {
	t.Helper()
	text := check.Must(client.Info(t.Context(), section).Result())(t)
	for line := range bytes.Lines([]byte(text)) {
		if key, value, found := bytes.Cut(bytes.TrimSpace(line), []byte(":")); found && string(key) == field {
			return string(value)
		}
	}
	return ""
}

// awaitInfo returns when a field of INFO has a value.
func awaitInfo(t testing.TB, client *redisfeed.Client, section, field, want string) {
	t.Helper()
	check.Eventually(t, field, func() error {
		if got := info(t, client, section, field); got != want {
			return fmt.Errorf("%q, want %q", got, want)
		}
		return nil
	})
}

// calls returns how often Redis ran a command, as in INFO.
func calls(t testing.TB, client *redisfeed.Client, command string) string {
	t.Helper()
	count, _, _ := strings.Cut(info(t, client, "commandstats", "cmdstat_"+command), ",")
	return count
}
