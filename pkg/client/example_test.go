package client_test

import (
	"context"
	"fmt"
	"log"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/countersign/countersign/pkg/client"
	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// One client for the whole program; its goroutines share the streams.
func ExampleNewStreaming() {
	connection, err := grpc.NewClient("dns:///validators:7071",
		grpc.WithTransportCredentials(insecure.NewCredentials()), // a trusted network; otherwise credentials.NewTLS
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	validators := client.NewStreaming(connection, client.StreamOptions{})
	defer validators.Close()

	answer, err := validators.Authorize(context.Background(), client.Request{
		AppID: "pezwd5bre2xb", Token: secret.New("what the request carried"), Scope: countersignv1.Scope_SCOPE_EVENTS,
	})
	switch {
	case err != nil:
		fmt.Println("nobody can decide now:", client.Reason(err))
	case answer.Allow:
		fmt.Println("accept the request")
	default:
		fmt.Println("reject the request:", answer.Reason)
	}
}
