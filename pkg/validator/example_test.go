package validator_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"time"

	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/client"
	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/validator"
)

// An ingest server that decides in its own process. Like the validator service, it needs Redis with the
// rights of a validator, and the key ring.
func Example() {
	ring, err := keyring.Load("keyring.json")
	if err != nil {
		log.Fatal(err)
	}
	v, err := validator.New(validator.Config{RedisURL: "redis://localhost:6379/0", Ring: ring, Log: slog.Default()})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- v.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			log.Print(err)
		}
	}()

	const events policy.Scope = 1 // as in countersign.v1.Scope
	http.HandleFunc("/v1/apps/{app}/events", func(w http.ResponseWriter, r *http.Request) {
		token, err := client.BearerSecret(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		answer, err := v.Authorize(r.Context(), validator.Request{AppID: r.PathValue("app"), Token: token, Scope: events})
		switch {
		case err != nil:
			// An error is not a denial: the sender should try again.
			http.Error(w, "the request cannot be authorized now", http.StatusServiceUnavailable)
		case !answer.Allow:
			http.Error(w, "unauthorized", http.StatusUnauthorized)
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	})
	server := &http.Server{Addr: ":8080"}
	if err := v.WaitReady(ctx); err != nil {
		log.Print(err)
	}
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Print(err)
	}
}

// New checks the configuration. Run loads the policies and follows the store.
func ExampleNew() {
	redisURL, ring, _, stopStore := startStore()
	defer stopStore()

	v, err := validator.New(validator.Config{RedisURL: redisURL, Ring: ring, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("before Run:", v.Ready())

	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	ended := make(chan error, 1)
	go func() { ended <- v.Run(ctx) }()
	if err := v.WaitReady(ctx); err != nil {
		fmt.Println(err)
	}
	_, stale := v.Freshness()
	fmt.Println("ready:", v.Ready() == nil, "stale:", stale)

	stop()
	fmt.Println("Run has ended:", <-ended)
	// Output:
	// before Run: the policies are not loaded yet: no store was found
	// ready: true stale: false
	// Run has ended: <nil>
}

// Authorize answers from memory.
func ExampleValidator_Authorize() {
	redisURL, ring, token, stopStore := startStore()
	defer stopStore()
	v, err := validator.New(validator.Config{RedisURL: redisURL, Ring: ring, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	ended := make(chan error, 1)
	go func() { ended <- v.Run(ctx) }()
	defer func() { stop(); <-ended }()
	if err := v.WaitReady(ctx); err != nil {
		fmt.Println(err)
		return
	}

	const events policy.Scope = 1 // as in countersign.v1.Scope
	for _, token := range []secret.Secret{token, secret.Mint()} {
		answer, err := v.Authorize(ctx, validator.Request{AppID: exampleApp, Token: token, Scope: events})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("allow: %t, token: %q\n", answer.Allow, answer.TokenID)
	}
	_, err = v.Authorize(ctx, validator.Request{AppID: "not an app id", Token: token, Scope: events})
	fmt.Println(status.Code(err))
	// Output:
	// allow: true, token: "tok_example"
	// allow: false, token: ""
	// InvalidArgument
}

// A validator's name in the fleet may have spaces, but not at its ends.
func ExampleCheckID() {
	fmt.Println(validator.CheckID("ingest 1"))
	fmt.Println(validator.CheckID("ingest 1 ") == nil)
	// Output:
	// <nil>
	// false
}
