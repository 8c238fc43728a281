package performance

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/pkg/validator"
)

// account makes an account of the Redis, and returns the URL for it at an address.
func (w *world) account(user, rights, address string) string {
	w.t.Helper()
	command := []any{"ACL", "SETUSER", user, "reset", "on", ">" + user}
	for _, rule := range strings.Fields(rights) {
		command = append(command, rule)
	}
	if err := w.redis(w.t).Do(w.t.Context(), command...).Err(); err != nil {
		w.t.Fatal(err)
	}
	return redistest.URL(address, user, user)
}

// embed runs validators in this process until the test ends. Change, unless nil, adapts the configuration of
// each.
func (w *world) embed(n int, change func(i int, c *validator.Config), redisURL string) []*validator.Validator {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	var running sync.WaitGroup
	w.t.Cleanup(func() { cancel(); running.Wait() })
	all := make([]*validator.Validator, n)
	for i := range all {
		config := validator.Config{RedisURL: redisURL, Ring: w.Ring, Log: slog.New(slog.DiscardHandler)}
		if change != nil {
			change(i, &config)
		}
		v := check.Must(validator.New(config))(w.t)
		running.Go(func() {
			if err := v.Run(ctx); err != nil {
				w.t.Error(err)
			}
		})
		all[i] = v
	}
	return all
}

// awaitReady returns when validators have loaded everything.
func awaitReady(t testing.TB, validators []*validator.Validator) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), loadPatience)
	defer cancel()
	for _, v := range validators {
		if err := v.WaitReady(ctx); err != nil {
			t.Fatal(err)
		}
	}
}
