package flood

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/countersign/countersign/pkg/redisfeed"
)

// redisCommands returns how many times Redis has run each command; nothing with the embedded store, which
// does not count commands.
func (f *flooder) redisCommands(ctx context.Context) (map[string]uint64, error) {
	if f.bed.Embedded() {
		return nil, nil
	}
	client, err := redisfeed.Open(f.bed.RedisURL(), redisfeed.Options{})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	info, err := client.Info(ctx, "commandstats").Result()
	if err != nil {
		return nil, err
	}
	return commandCalls(info)
}

// commandCalls parses the commandstats section of Redis's INFO, and returns the number of calls by command.
func commandCalls(info string) (map[string]uint64, error) {
	calls := map[string]uint64{}
	for line := range strings.Lines(info) {
		line, is := strings.CutPrefix(strings.TrimSpace(line), "cmdstat_")
		name, fields, found := strings.Cut(line, ":calls=")
		if !is || !found {
			continue
		}
		text, _, _ := strings.Cut(fields, ",")
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("INFO commandstats of Redis, command %s: %w", name, err)
		}
		calls[name] = n
	}
	return calls, nil
}
