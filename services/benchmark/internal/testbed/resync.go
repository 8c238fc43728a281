package testbed

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/countersign/countersign/deploy/redisacl"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/services/benchmark/internal/report"
	"github.com/countersign/countersign/services/benchmark/internal/serve"
)

// createAccount creates a Redis account for one validator, so that this validator alone can be cut off from
// Redis. It returns the store's URL with the name and the password of the account.
func (t *Testbed) createAccount(ctx context.Context, name string) (string, error) {
	client, err := redisfeed.Open(t.url, redisfeed.Options{})
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
	withAccount, err := url.Parse(t.url)
	if err != nil {
		return "", err
	}
	withAccount.User = url.UserPassword(name, password)
	return withAccount.String(), nil
}

// resyncing makes a validator resync repeatedly if ResyncEvery is not 0. For other servers it does nothing.
// It returns when the first resync has begun. The returned function ends the resyncs, and returns when the
// last one is done.
func (t *Testbed) resyncing(s *Server) (end func() (*report.Resyncs, error), err error) {
	if t.options.ResyncEvery == 0 || s.role != serve.Validator {
		return func() (*report.Resyncs, error) { return nil, nil }, nil
	}
	_, err = t.order(serve.Command{Resync: &serve.Target{User: s.account, HTTP: s.http, Every: t.options.ResyncEvery}})
	if err != nil {
		return nil, err
	}
	began := time.Now()
	return func() (*report.Resyncs, error) {
		after, err := t.order(serve.Command{})
		took := time.Since(began)
		// A resync in progress must end before another server has its turn.
		_, failed := t.order(serve.Command{Steady: true})
		if err := errors.Join(err, failed); err != nil {
			return nil, err
		}
		return &report.Resyncs{Times: after.Resyncs, Share: float64(after.ResyncTime) / float64(took)}, nil
	}, nil
}

// order sends a command to the writer, and returns its state after the command.
func (t *Testbed) order(c serve.Command) (s serve.State, err error) {
	if err = t.writer.Ask(c, &s); err == nil && s.Error != "" {
		err = errors.New(s.Error)
	}
	return s, err
}
