package validator_test

import (
	"context"
	"errors"
	"log"
	"log/slog"
	"net/http"

	"github.com/countersign/countersign/pkg/client"
	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/validator"
)

// An ingest server that decides by itself, without a call to a validator's service. It follows the store as
// one does, and wants what one wants: Redis with the rights of a validator, and the key ring.
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
			// No decision, which is no denial: the sender shall try again.
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
