package client_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/countersign/countersign/pkg/client"
	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// Each question is a gRPC call.
func ExampleNew() {
	address, stop := startValidator()
	defer stop()
	connection, err := client.Dial([]string{address}, client.DialOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer connection.Close()

	validators := client.New(connection)
	for _, token := range []string{"cs_good", "cs_other"} {
		answer, err := validators.Authorize(context.Background(), client.Request{
			AppID: "pezwd5bre2xb", Token: secret.New(token), Scope: countersignv1.Scope_SCOPE_EVENTS,
		})
		fmt.Println(answer.Allow, answer.Reason, answer.TokenID, err)
	}
	// Output:
	// true REASON_TOKEN_VALID tok_example <nil>
	// false REASON_TOKEN_UNKNOWN  <nil>
}

// One client serves the whole program. Its goroutines share the streams.
func ExampleNewStreaming() {
	address, stop := startValidator()
	defer stop()
	connection, err := client.Dial([]string{address}, client.DialOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer connection.Close()

	validators := client.NewStreaming(connection, client.StreamOptions{Streams: 4})
	defer validators.Close()
	answer, err := validators.Authorize(context.Background(), client.Request{
		AppID: "pezwd5bre2xb", Token: secret.New("cs_good"), Scope: countersignv1.Scope_SCOPE_EVENTS,
	})
	fmt.Println(answer.Allow, answer.Reason, err)
	// Output:
	// true REASON_TOKEN_VALID <nil>
}

// An answer allows or denies. An error does neither.
func ExampleClient_Authorize() {
	address, stop := startValidator()
	defer stop()
	connection, err := client.Dial([]string{address}, client.DialOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer connection.Close()
	validators := client.New(connection)

	ctx := context.Background()
	for _, appID := range []string{"pezwd5bre2xb", "unverified"} {
		answer, err := validators.Authorize(ctx, client.Request{
			AppID: appID, Token: secret.New("cs_good"), Scope: countersignv1.Scope_SCOPE_EVENTS,
		})
		switch {
		case client.Undecided(ctx, err):
			fmt.Println("try again later:", client.Reason(err))
		case err != nil:
			fmt.Println("the question is wrong:", client.Reason(err))
		case answer.Allow:
			fmt.Println("accept the request")
		default:
			fmt.Println("reject the request:", answer.Reason)
		}
	}
	// Output:
	// accept the request
	// try again later: POLICY_UNVERIFIED
}

// The middleware takes the token from a query parameter, since the senders cannot set headers.
func ExampleMiddleware_Wrap() {
	address, stop := startValidator()
	defer stop()
	connection, err := client.Dial([]string{address}, client.DialOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer connection.Close()

	events := client.Middleware{
		Client: client.New(connection),
		Scope:  countersignv1.Scope_SCOPE_EVENTS,
		AppID:  func(r *http.Request) string { return r.PathValue("app") },
		Secret: client.QuerySecret("token"),
	}
	mux := http.NewServeMux()
	mux.Handle("POST /{app}/events", events.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusAccepted)
	})))
	for _, target := range []string{
		"/pezwd5bre2xb/events?token=cs_good", "/pezwd5bre2xb/events?token=cs_other", "/unverified/events",
	} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodPost, target, nil))
		fmt.Println(w.Code, target)
	}
	// Output:
	// 202 /pezwd5bre2xb/events?token=cs_good
	// 401 /pezwd5bre2xb/events?token=cs_other
	// 503 /unverified/events
}
