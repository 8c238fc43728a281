package validator_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// exampleApp is an app that enforces the scope events.
const exampleApp = "pezwd5bre2xb"

// startStore starts a Redis server with a store for an example. The store has one app, exampleApp, and the
// app has one token.
func startStore() (redisURL string, ring *keyring.Ring, token secret.Secret, stop func()) {
	t := &exampleTB{}
	server, store := redistest.Start(t), storetest.New(t, 8)
	token = secret.Mint()
	store.Commit(exampleApp, storetest.Add(storetest.Token("tok_example", token.Reveal(), events)), storetest.Enforce(events))
	client, err := redisfeed.Open(server.URL(), redisfeed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	store.CopyTo(client)
	t.Cleanup(func() { _ = client.Close() })
	return server.URL(), store.Ring(), token, t.end
}

// exampleTB stands in for a testing.TB, which examples do not have.
type exampleTB struct {
	testing.TB
	cleanups []func()
}

func (t *exampleTB) Helper()                           {}
func (t *exampleTB) Context() context.Context          { return context.Background() }
func (t *exampleTB) Failed() bool                      { return false }
func (t *exampleTB) Cleanup(f func())                  { t.cleanups = append(t.cleanups, f) }
func (t *exampleTB) Fatal(args ...any)                 { panic(fmt.Sprint(args...)) }
func (t *exampleTB) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (t *exampleTB) Error(args ...any)                 { panic(fmt.Sprint(args...)) }
func (t *exampleTB) Errorf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func (t *exampleTB) TempDir() string {
	folder, err := os.MkdirTemp("", "example-")
	if err != nil {
		panic(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	return folder
}

// end cleans up in reverse order, as a test does.
func (t *exampleTB) end() {
	for i := len(t.cleanups) - 1; i >= 0; i-- {
		t.cleanups[i]()
	}
}
