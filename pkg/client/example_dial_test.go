package client_test

import (
	"log"
	"net/http"

	"github.com/countersign/countersign/pkg/client"
	"github.com/countersign/countersign/pkg/grpcclient"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// ingest puts the question in front of a handler, and serves.
func ingest(mux *http.ServeMux, handler http.Handler) error {
	validators, err := client.Dial([]string{"validators:7071"}, client.DialOptions{
		Security: grpcclient.Security{Plaintext: true}, // a trusted network; without this line it is TLS
	})
	if err != nil {
		return err
	}
	defer validators.Close()
	events := client.Middleware{
		Client: client.New(validators),
		Scope:  countersignv1.Scope_SCOPE_EVENTS,
		AppID:  func(r *http.Request) string { return r.PathValue("app") },
		// Where the secret is; also HeaderSecret, QuerySecret and FormSecret, or a function of your own.
		Secret: client.BearerSecret,
	}
	mux.Handle("POST /{app}/events", events.Wrap(handler))
	return http.ListenAndServe(":8080", mux)
}

// An ingest tier that asks about each request, and goes on when one of its validators is in trouble.
func ExampleDial() {
	accepted := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) })
	log.Fatal(ingest(http.NewServeMux(), accepted))
}
