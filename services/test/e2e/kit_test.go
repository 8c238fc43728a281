// Package e2e tests a whole Countersign from outside: an authority, two validators and a real Redis. The
// tests call the servers over gRPC, as clients do.
package e2e

import (
	"context"
	"os"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc/metadata"

	"github.com/countersign/countersign/pkg/testkit/check"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/test/cluster"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if binariesFolder != "" {
			_ = os.RemoveAll(binariesFolder)
		}
		os.Exit(code)
	}))
}

const (
	events    = countersignv1.Scope_SCOPE_EVENTS
	sessions  = countersignv1.Scope_SCOPE_SESSIONS
	adRevenue = countersignv1.Scope_SCOPE_AD_REVENUE

	allow = countersignv1.Decision_DECISION_ALLOW
	deny  = countersignv1.Decision_DECISION_DENY
)

// world is a cluster with its clients.
type world struct {
	*cluster.Cluster
	t          *testing.T
	management countersignv1.AuthorityServiceClient
	admin      context.Context
	deciders   []countersignv1.ValidatorServiceClient
}

func start(t *testing.T, options cluster.Options) *world {
	t.Helper()
	options.Validators = 2
	w := &world{Cluster: cluster.Start(t, options), t: t}
	w.admin = metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+w.AdminKey.Reveal())
	w.management = countersignv1.NewAuthorityServiceClient(check.Dial(w.t, w.Authority))
	for _, address := range w.Validators {
		w.deciders = append(w.deciders, countersignv1.NewValidatorServiceClient(check.Dial(w.t, address)))
	}
	return w
}

// expect asks both validators, with the MinRevision of a change, and checks their answers.
func (w *world) expect(what, since string, request *countersignv1.AuthorizeRequest, decision countersignv1.Decision,
	reason countersignv1.Reason,
) {
	w.t.Helper()
	for i, decider := range w.deciders {
		request.MinRevision = since
		answer, err := decider.Authorize(w.t.Context(), request)
		if err != nil {
			w.t.Errorf("%s: validator %d: %v", what, i+1, err)
			continue
		}
		if answer.GetDecision() != decision || answer.GetReason() != reason {
			w.t.Errorf("%s: validator %d: got %s %s, want %s %s", what, i+1, answer.GetDecision(), answer.GetReason(),
				decision, reason)
		}
	}
}
