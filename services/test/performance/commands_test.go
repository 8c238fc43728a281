package performance

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/check"
)

// commands is the number of commands that a Redis has executed since its start, by command, without INFO.
type commands map[string]int

// readInfo returns a number from a section of INFO.
func readInfo(t testing.TB, client *redisfeed.Client, section, name string) int {
	t.Helper()
	for line := range strings.Lines(check.Must(client.Info(t.Context(), section).Result())(t)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+":"); ok {
			return check.Must(strconv.Atoi(value))(t)
		}
	}
	t.Fatalf("INFO %s has no %s", section, name)
	return 0
}

func readCommands(t testing.TB, client *redisfeed.Client) commands {
	t.Helper()
	c := commands{}
	for line := range strings.Lines(check.Must(client.Info(t.Context(), "commandstats").Result())(t)) {
		var calls int
		name, rest, _ := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":")
		if n, _ := fmt.Sscanf(rest, "calls=%d,", &calls); n == 1 && name != "info" {
			c[name] = calls
		}
	}
	return c
}

// since returns the commands since an earlier count of the same Redis.
func (c commands) since(earlier commands) commands {
	d := commands{}
	for name, calls := range c {
		if calls > earlier[name] {
			d[name] = calls - earlier[name]
		}
	}
	return d
}

// reads is the number of commands that read records.
func (c commands) reads() int { return c["get"] + c["hscan"] + c["xrange"] }

func (c commands) String() string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(c)) {
		words = append(words, fmt.Sprintf("%s %d", name, c[name]))
	}
	return strings.Join(words, ", ")
}

// watchCommands returns the commands of each of the next seconds. The first also has those before.
func watchCommands(ctx context.Context, t testing.TB, client *redisfeed.Client, seconds int) (each []commands) {
	before := commands{}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for range seconds {
		select {
		case <-ctx.Done():
			return each
		case <-tick.C:
		}
		now := readCommands(t, client)
		each = append(each, now.since(before))
		before = now
	}
	return each
}
