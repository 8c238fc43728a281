package management_test

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/check"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/test/cluster"
)

// auditRows returns the audit events of an app, oldest first, after it has verified the whole trail of the
// partition.
func (w *world) auditRows(t testing.TB, app string) (events []*pb.AuditEvent) {
	t.Helper()
	hash := policy.HashApp(app)
	partition := hash.Partition(record.DefaultPartitions)
	codec := record.NewCodec(w.Ring, check.Must(w.redis.Meta(t.Context(), w.Ring))(t))
	var tail record.AuditTail
	for _, row := range check.Must(w.redis.XRange(t.Context(), record.KeysOf(partition).Audit, "-", "+").Result())(t) {
		event, next, err := codec.OpenAudit(partition, tail, []byte(row.Values[redisfeed.AuditField].(string)))
		if err != nil {
			t.Fatal(err)
		}
		if tail = next; event.GetAppId() == app {
			events = append(events, event)
		}
	}
	return events
}

// shown returns what a caller sees of an app: nil, and no tokens, for an app that does not exist.
func (w *world) shown(t testing.TB, app string) (*pb.App, map[string]*pb.Token) {
	t.Helper()
	got, err := w.GetApp(t.Context(), &pb.GetAppRequest{AppId: app})
	if status.Code(err) == codes.NotFound {
		return nil, nil
	}
	tokens := map[string]*pb.Token{}
	for _, token := range w.list(t, app, true) {
		tokens[token.GetTokenId()] = token
	}
	return check.Must(got, err)(t).GetApp(), tokens
}

// as connects to the authority with a key, and returns the local network address.
func (w *world) as(t testing.TB, key string) (client *grpc.ClientConn, from func() string) {
	t.Helper()
	var mu sync.Mutex
	var address string
	client, err := grpc.NewClient(w.Authority, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, to string) (net.Conn, error) {
			connection, err := new(net.Dialer).DialContext(ctx, "tcp", to)
			if err == nil {
				mu.Lock()
				address = connection.LocalAddr().String()
				mu.Unlock()
			}
			return connection, err
		}),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, request, response any, conn *grpc.ClientConn,
			invoke grpc.UnaryInvoker, options ...grpc.CallOption,
		) error {
			return invoke(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key), method, request, response, conn,
				options...)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client, func() string {
		mu.Lock()
		defer mu.Unlock()
		return address
	}
}

// appOf returns the app of a change.
func (c change) appOf() string {
	if app := field(c.request, "app_id"); app != "" {
		return app
	}
	return c.ask.GetAppId()
}

// B23: every changing call leaves one row: who, what, when, from where, before and after. Before and after
// are what a caller sees. A repetition, a refused call and a dry run leave none.
func TestB23_RowsSayWhatHappened(t *testing.T) {
	w := newWorldWith(t, cluster.Options{Validators: 0})
	conn, from := w.as(t, w.AdminKey.Reveal())
	asAda := *w
	asAda.conn = conn
	changes := w.changes(t)
	fresh := newApp()
	changes = append(changes, change{
		method: "CreateToken", request: &pb.CreateTokenRequest{
			AppId: fresh, Name: "the first of its app",
			Scopes: []pb.Scope{events}, Note: "n", ExpireTime: in(time.Hour),
		},
	})
	for i, c := range changes {
		for _, id := range []string{"request-" + c.method, ""} {
			if id == "" && i != len(changes)-1 {
				continue // made again with an id of its own, most would change nothing
			}
			if id == "" {
				c.request.(*pb.CreateTokenRequest).Name = "another one"
			}
			t.Run(strings.TrimSuffix(c.method+" "+id, " "), func(t *testing.T) {
				app := c.appOf()
				setField(c.request, "request_id", id)
				beforeApp, beforeTokens := w.shown(t, app)
				held := len(w.auditRows(t, app))
				began := time.Now().Truncate(time.Millisecond)
				response := check.Must(asAda.invoke(t, c.method, c.request))(t)
				ended := time.Now()
				rows := w.auditRows(t, app)
				if len(rows) != held+1 {
					t.Fatalf("%d rows more", len(rows)-held)
				}
				row := rows[held]
				afterApp, afterTokens := w.shown(t, app)

				if row.GetIdentity() != "admin" || row.GetPeer() != from() || row.GetMethod() != c.method || row.GetRequestId() != id {
					t.Errorf("it says that %q called %q from %q with the request id %q, want admin, %s, %s, %q",
						row.GetIdentity(), row.GetMethod(), row.GetPeer(), row.GetRequestId(), c.method, from(), id)
				}
				if at := row.GetEventTime().AsTime(); at.Before(began) || at.After(ended) {
					t.Errorf("it was at %v, the call took from %v to %v", at, began, ended)
				}
				consistency := field(response, "consistency_token")
				if many, ok := response.(*pb.RevokeSecretResponse); ok {
					consistency = many.GetConsistencyTokens()[0]
				}
				if want := check.Must(record.DecodePosition(consistency))(t).Revision; row.GetRevision() != want {
					t.Errorf("revision %d, want %d", row.GetRevision(), want)
				}
				if !proto.Equal(row.GetAppBefore(), beforeApp) {
					t.Errorf("before: %v, want %v", row.GetAppBefore(), beforeApp)
				}
				if c.method != "DeleteApp" && !proto.Equal(row.GetAppAfter(), afterApp) {
					t.Errorf("after: %v, want %v", row.GetAppAfter(), afterApp)
				}
				told := map[string]bool{}
				for _, token := range row.GetTokens() {
					tokenID := token.GetAfter().GetTokenId()
					told[tokenID] = true
					before, after := beforeTokens[tokenID], afterTokens[tokenID]
					if c.method == "DeleteApp" { // which nobody can list any more
						after = token.GetAfter()
						if after.GetState() != revoked {
							t.Errorf("token %s of a deleted app is %v", tokenID, after.GetState())
						}
					}
					if !proto.Equal(token.GetBefore(), before) || !proto.Equal(token.GetAfter(), after) {
						t.Errorf("token %s:\n%v, %v, want\n%v, %v", tokenID, token.GetBefore(), token.GetAfter(), before, after)
					}
				}
				for tokenID, before := range beforeTokens {
					if after := afterTokens[tokenID]; !proto.Equal(before, after) != told[tokenID] {
						t.Errorf("token %s changed from %v to %v; it is told of: %v", tokenID, before, after, told[tokenID])
					}
				}
				for tokenID := range afterTokens {
					if beforeTokens[tokenID] == nil && !told[tokenID] {
						t.Errorf("nothing is told of the new token %s", tokenID)
					}
				}

				// What changes nothing leaves no row.
				if id != "" {
					check.Must(asAda.invoke(t, c.method, c.request))(t)
					other := proto.Clone(c.request)
					c.refuse(other)
					// RevokeSecret with allow_lockout is a repetition.
					if _, err := asAda.invoke(t, c.method, other); err == nil && c.method != "RevokeSecret" {
						t.Error("the request id was taken for another request")
					}
				}
				if again := w.auditRows(t, app); len(again) != len(rows) {
					t.Errorf("a repetition and a refused call left %d rows", len(again)-len(rows))
				}
			})
		}
	}
}

// refuse makes a request fail: its id was used for another request.
func (c change) refuse(request proto.Message) {
	if c.other != nil {
		c.other(request)
		return
	}
	setField(request, "name", "other")
}

// B10, B23: each app in which a leaked secret is revoked has a row of its own.
func TestB23_RowsOfALeakedSecret(t *testing.T) {
	w := newWorldWith(t, cluster.Options{Validators: 0})
	leaked := foreign()
	apps := newApps(3)
	tokens := w.share(t, leaked, apps...)
	before := map[string]*pb.Token{}
	for _, app := range apps {
		before[app] = w.get(t, app, tokens[app])
	}
	check.Must(w.RevokeSecret(t.Context(), &pb.RevokeSecretRequest{Secret: leaked, RequestId: "r1"}))(t)
	for _, app := range apps {
		rows := w.auditRows(t, app)
		row := rows[len(rows)-1]
		if len(rows) != 2 || row.GetMethod() != "RevokeSecret" || row.GetIdentity() != "admin" || row.GetRequestId() != "r1" ||
			row.GetPeer() == "" ||
			len(row.GetTokens()) != 1 || !proto.Equal(row.GetTokens()[0].GetBefore(), before[app]) ||
			!proto.Equal(row.GetTokens()[0].GetAfter(), w.get(t, app, tokens[app])) {
			t.Errorf("%s: %d rows, the last one is %v", app, len(rows), row)
		}
	}
	if slices.ContainsFunc(w.auditRows(t, apps[0]), func(e *pb.AuditEvent) bool {
		return strings.Contains(e.String(),
			leaked)
	}) {
		t.Error("a row holds the secret (B02)")
	}
}
