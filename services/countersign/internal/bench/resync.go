package bench

import (
	"context"
	"errors"
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

// leastShare is the least part of its turns in which a validator must be loading, for a comparison without
// a note on that.
const leastShare = 0.25

// account makes an account of Redis that only one validator has, so that it can be cut off and no other,
// and returns the URL with it.
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

// resyncing makes a contestant load everything anew, again and again, until the function that it returns is
// called, which returns when the latest load is done. It returns when the first load has begun. Nothing is
// done to what is no validator.
func (a *arena) resyncing(c *contestant) (end func() (*Resyncs, error), err error) {
	if a.options.ResyncEvery == 0 || c.role != serve.Validator {
		return func() (*Resyncs, error) { return nil, nil }, nil
	}
	_, err = a.order(serve.Command{Resync: &serve.Victim{User: c.account, HTTP: c.http, Every: a.options.ResyncEvery}})
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
		return &Resyncs{Times: after.Resyncs, Share: float64(after.ResyncTime) / float64(took)}, nil
	}, nil
}

// order tells the writer what to do.
func (a *arena) order(c serve.Command) (s serve.State, err error) {
	if err = a.writer.Ask(c, &s); err == nil && s.Error != "" {
		err = errors.New(s.Error)
	}
	return s, err
}
