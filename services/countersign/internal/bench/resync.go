package bench

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/countersign/countersign/deploy/redisacl"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/services/countersign/internal/bench/serve"
)

// Resyncs is how often a validator has loaded the whole store anew in a turn, while it decided.
type Resyncs struct {
	Times uint64 `json:"times"`
	// Share is what part of the measurement that was.
	Share float64 `json:"share"`
}

// leastShare is the least part of a turn in which a validator must be loading, for the turn to say something of that.
const leastShare = 0.25

// account makes an account of Redis that only one validator has, so that it can be cut off and no other, and returns the URL
// with it.
func (a *arena) account(ctx context.Context, name string) (string, error) {
	client, err := redisfeed.Open(a.url, redisfeed.Options{})
	if err != nil {
		return "", err
	}
	defer client.Close()
	password := secret.Mint().Reveal()
	command := []any{"ACL", "SETUSER", name, "on", ">" + password}
	for right := range strings.FieldsSeq(redisacl.Rules(redisacl.Validator)) {
		command = append(command, right)
	}
	if err := client.Do(ctx, command...).Err(); err != nil {
		return "", err
	}
	where, err := url.Parse(a.url)
	if err != nil {
		return "", err
	}
	where.User = url.UserPassword(name, password)
	return where.String(), nil
}

// resyncing makes a contestant load everything anew, again and again, until the function that it returns is called, which
// returns when the latest load is done. Nothing is done to what is no validator.
func (a *arena) resyncing(c *contestant) (end func() (*Resyncs, error), err error) {
	if a.options.ResyncEvery == 0 || c.role != serve.Validator {
		return func() (*Resyncs, error) { return nil, nil }, nil
	}
	before, err := a.order(serve.Command{Resync: &serve.Victim{User: c.account, HTTP: c.http, Every: a.options.ResyncEvery}})
	if err != nil {
		return nil, err
	}
	began := time.Now()
	return func() (*Resyncs, error) {
		after, err := a.order(serve.Command{})
		took := time.Since(began)
		// What goes on must end before another server has its turn.
		_, failed := a.order(serve.Command{Steady: true})
		if err := errors.Join(err, failed); err != nil {
			return nil, err
		}
		r := &Resyncs{Times: after.Resyncs - before.Resyncs, Share: float64(after.ResyncTime-before.ResyncTime) / float64(took)}
		if r.Times == 0 || r.Share < leastShare {
			return nil, fmt.Errorf("--resync-every: the validator has hardly loaded anything anew (for %.0f %% of the time) within the %s of its turn: take longer for it, or more tokens",
				100*r.Share, took.Round(time.Millisecond))
		}
		return r, nil
	}, nil
}

// order tells the writer what to do.
func (a *arena) order(c serve.Command) (s serve.State, err error) {
	if err = a.writer.Ask(c, &s); err == nil && s.Error != "" {
		err = errors.New(s.Error)
	}
	return s, err
}
