package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/check"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/store/tools"
	"github.com/countersign/countersign/services/test/cluster"
)

// logbook collects the logs of all servers.
type logbook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logbook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logbook) has(text string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Contains(b.text.Bytes(), []byte(text))
}

func (w *world) operator() (*tools.Tools, *redisfeed.Client) {
	w.t.Helper()
	client := check.Must(redisfeed.Open(w.RedisURL, redisfeed.Options{}))(w.t)
	w.t.Cleanup(func() { _ = client.Close() })
	return tools.New(client, w.Ring), client
}

// create makes a token with a name, and retries while the store is unavailable. It returns nil when ctx ends.
func (w *world) create(ctx context.Context, app, name string) *countersignv1.CreateTokenResponse {
	for began := time.Now(); ctx.Err() == nil; {
		made, err := w.management.CreateToken(w.admin, &countersignv1.CreateTokenRequest{
			AppId: app, Name: name, Scopes: []countersignv1.Scope{events}, RequestId: app + "." + name,
		})
		if err == nil {
			return made
		}
		if ctx.Err() != nil {
			return nil
		}
		if status.Code(err) != codes.Unavailable && status.Code(err) != codes.AlreadyExists {
			w.t.Errorf("%s: %v", name, err)
			return nil
		}
		if time.Since(began) > patience {
			w.t.Errorf("%s: changes still fail: %v", name, err)
			return nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

// TestB30_RestoringWhileAnAppIsChangedDoesNotOpenIt: a backup is restored while writers change apps. The
// enforcement that was set and the tokens that were created since the backup are in force again afterwards.
// At no moment does a running validator allow what the app's enforcement denies, and no acknowledged token is
// lost.
func TestB30_RestoringWhileAnAppIsChangedDoesNotOpenIt(t *testing.T) {
	var log logbook
	w := start(t, cluster.Options{Report: true, Authorities: 2, Log: &log})
	operator, _ := w.operator()
	const app = "shop"
	first := check.Must(w.management.CreateToken(w.admin,
		&countersignv1.CreateTokenRequest{AppId: app, Name: "backend", Scopes: []countersignv1.Scope{events}}))(t)
	path := filepath.Join(t.TempDir(), "store.backup")
	check.Must(operator.Backup(t.Context(), path, false))(t)
	check.Must(w.management.SetEnforcement(w.admin, &countersignv1.SetEnforcementRequest{
		AppId: app, Scopes: []countersignv1.Scope{events}, AllowRejections: true,
		WaitForPropagation: durationpb.New(30 * time.Second),
	}))(t)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var running sync.WaitGroup
	var mu sync.Mutex
	made := map[string]string{} // app by token
	restored := make(chan struct{})
	for n := range 4 {
		running.Go(func() {
			for i := 0; i < 15 || !closed(restored); i++ {
				if ctx.Err() != nil {
					return
				}
				// This changes the note of the app's token, in the store with or without the enforcement.
				_, err := w.management.UpdateToken(w.admin, &countersignv1.UpdateTokenRequest{
					AppId: app, Token: &countersignv1.Token{TokenId: first.GetToken().GetTokenId(), Note: fmt.Sprint(n, i)},
					UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"note"}},
				})
				if err != nil && status.Code(err) != codes.Unavailable && ctx.Err() == nil {
					t.Errorf("update: %v", err)
				}
				other := fmt.Sprint("app", n, "-", i%7)
				if token := w.create(ctx, other, fmt.Sprintf("token-%d-%d", n, i)); token != nil {
					mu.Lock()
					made[token.GetToken().GetTokenId()] = other
					mu.Unlock()
				}
			}
		})
	}
	for _, decider := range w.deciders {
		running.Go(func() {
			for ctx.Err() == nil {
				answer, err := decider.Authorize(ctx, &countersignv1.AuthorizeRequest{AppId: app, Scope: events})
				if err == nil && answer.GetDecision() == allow {
					t.Errorf("the validator allows a request that it must deny: %v", answer)
					return
				}
			}
		})
	}
	check.Eventually(t, "changes are made", func() error {
		mu.Lock()
		defer mu.Unlock()
		if len(made) < 20 {
			return fmt.Errorf("%d were made", len(made))
		}
		return nil
	})
	check.Must(operator.Restore(t.Context(), path, tools.RestoreOptions{Replace: true}))(t)
	close(restored)
	last := w.create(t.Context(), app, "last") // waits until changes are possible again
	stop()
	running.Wait()
	if last == nil {
		t.FailNow()
	}

	w.expect("no token", last.GetConsistencyToken(), &countersignv1.AuthorizeRequest{AppId: app, Scope: events}, deny,
		countersignv1.Reason_REASON_TOKEN_MISSING)
	got := check.Must(w.management.GetApp(w.admin, &countersignv1.GetAppRequest{AppId: app}))(t)
	if scopes := got.GetApp().GetEnforcedScopes(); len(scopes) != 1 || scopes[0] != events {
		t.Errorf("enforced scopes after the restoration: got %v, want only %v", scopes, events)
	}
	for id, app := range made {
		check.Eventually(t, "a token that was made is there", func() error {
			_, err := w.management.GetToken(w.admin, &countersignv1.GetTokenRequest{AppId: app, TokenId: id})
			return err
		})
	}
	if !log.has("they are brought back") || !log.has("apps=[") || !log.has(app) {
		t.Error("the logs do not name the changed apps")
	}
	t.Logf("%d tokens were made", len(made))
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// TestB30_WipedAfterARestoration: a store was restored, and is wiped later. The fleet brings its content back
// without a restart of any process.
func TestB30_WipedAfterARestoration(t *testing.T) {
	w := start(t, cluster.Options{Report: true})
	operator, client := w.operator()
	const app = "shop"
	w.create(t.Context(), app, "first")
	path := filepath.Join(t.TempDir(), "store.backup")
	check.Must(operator.Backup(t.Context(), path, false))(t)
	w.create(t.Context(), app, "second")
	check.Must(w.management.SetEnforcement(w.admin, &countersignv1.SetEnforcementRequest{
		AppId: app, Scopes: []countersignv1.Scope{events}, AllowRejections: true,
		WaitForPropagation: durationpb.New(30 * time.Second),
	}))(t)
	check.Must(operator.Restore(t.Context(), path, tools.RestoreOptions{Replace: true}))(t)
	third := w.create(t.Context(), app, "third")
	if third == nil {
		t.FailNow()
	}
	waiting, cancel := context.WithTimeout(w.admin, 30*time.Second)
	defer cancel()
	check.Must(w.management.WaitForPropagation(waiting,
		&countersignv1.WaitForPropagationRequest{ConsistencyToken: third.GetConsistencyToken()}))(t)
	if err := client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	fourth := w.create(t.Context(), app, "fourth")
	if fourth == nil {
		t.FailNow()
	}
	check.Eventually(t, "the store verifies", func() error {
		v, err := operator.Verify(t.Context())
		if err == nil && len(v.Findings) > 0 {
			err = errors.New(fmt.Sprint(v.Findings))
		}
		return err
	})
	tokens := check.Must(w.management.ListTokens(w.admin, &countersignv1.ListTokensRequest{AppId: app}))(t).GetTokens()
	if len(tokens) != 4 {
		t.Errorf("after the wipe, the app has %d tokens, want 4: %v", len(tokens), tokens)
	}
	w.expect("no token", fourth.GetConsistencyToken(), &countersignv1.AuthorizeRequest{AppId: app, Scope: events}, deny,
		countersignv1.Reason_REASON_TOKEN_MISSING)
}
