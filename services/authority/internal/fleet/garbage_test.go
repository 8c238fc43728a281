package fleet_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/check"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/test/cluster"
)

// verdict makes a change of an app, waits up to patience for its receipt, and returns the receipt.
func (w *world) verdict(patience time.Duration) *pb.Receipt {
	w.t.Helper()
	return w.change(0, "app", patience).GetReceipt()
}

// incomplete makes changes until the states in a receipt are as wanted. It fails when a receipt is complete.
func (w *world) incomplete(as func(states map[string]pb.PropagationState) bool) {
	w.t.Helper()
	check.Eventually(w.t, "a receipt", func() error {
		r := w.verdict(time.Second)
		if r.GetComplete() {
			w.t.Fatalf("got a complete receipt %v, want an incomplete one", r)
		}
		if !as(states(r)) {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
}

// restart stops every authority, calls meanwhile, and starts one authority.
func (w *world) restart(meanwhile func()) {
	w.t.Helper()
	for _, p := range w.AuthorityProcesses {
		p.Stop()
	}
	meanwhile()
	w.StartAuthority(w.t, w.Authority)
	check.Eventually(w.t, "an authority", func() error {
		response, err := w.authorities[0].ListValidators(w.admin(), &pb.ListValidatorsRequest{})
		for _, v := range response.GetValidators() {
			if v.GetValidatorId() == "validator-1" && v.GetState() != isReporting {
				err = fmt.Errorf("%v", v)
			}
		}
		return err
	})
}

// TestB24_ValidatorTakenOutOfRedisIsMissed: the record of a silent validator is removed while no authority
// runs. The next authority still names the validator in its receipts, until it is forgotten.
func TestB24_ValidatorTakenOutOfRedisIsMissed(t *testing.T) {
	t.Parallel()
	w := start(t, cluster.Options{Validators: 1})
	client := w.redis()
	stopped := w.play(0, w.FleetKey.Reveal())
	if _, err := stopped.send(stopped.hello); err != nil {
		t.Fatal(err)
	}
	stopped.close()
	w.restart(func() {
		if err := client.HDel(context.Background(), record.FleetKey, "played").Err(); err != nil {
			t.Error(err)
		}
	})
	// The removed validator is LOST from 10 s after the start of the authority.
	w.incomplete(func(all map[string]pb.PropagationState) bool {
		return len(all) == 2 && all["validator-1"] == applied && (all["played"] == pending || all["played"] == lost)
	})
	check.Eventually(t, "it can be forgotten", func() error {
		_, err := w.authorities[0].ForgetValidator(w.admin(), &pb.ForgetValidatorRequest{ValidatorId: "played"})
		return err
	})
	if r := w.verdict(wait); !r.GetComplete() || len(r.GetValidators()) != 1 {
		t.Errorf("after the validator was forgotten: got receipt %v, want it complete, with one validator", r)
	}
}

// TestB24_GarbageInTheFleet: the hash has a field that does not verify. A receipt shows at once which
// validators have the change, and the field as LOST, until an operator forgets the field. A key of another
// type is replaced by a hash.
func TestB24_GarbageInTheFleet(t *testing.T) {
	t.Parallel()
	w := start(t, cluster.Options{Validators: 1})
	client := w.redis()
	for name, field := range map[string]string{
		"a name": "ghost", "binary": "\xff\x00", "empty": "",
		"long": strings.Repeat("x", 1<<20),
	} {
		if err := client.HSet(t.Context(), record.FleetKey, field, "garbage\xff").Err(); err != nil {
			t.Fatal(err)
		}
		called := record.FieldName(field)
		want := map[string]pb.PropagationState{"validator-1": applied, called: lost}
		w.incomplete(func(all map[string]pb.PropagationState) bool { return maps.Equal(all, want) })
		if v := w.validators(0)[called]; !v.GetUnreadable() {
			t.Errorf("%s: got %v in the list, want it unreadable", name, v)
		}
		if _, err := w.authorities[0].ForgetValidator(w.admin(), &pb.ForgetValidatorRequest{ValidatorId: called}); err != nil {
			t.Errorf("%s: forgetting the field: got %v", name, err)
		}
		if r := w.verdict(wait); !r.GetComplete() || len(r.GetValidators()) != 1 {
			t.Errorf("%s: got receipt %v, want it complete, with one validator", name, r)
		}
	}
	for _, put := range []func() error{
		func() error { return client.LPush(t.Context(), record.FleetKey, "x").Err() },
		func() error { return client.Set(t.Context(), record.FleetKey, "x", 0).Err() },
	} {
		if err := client.Del(t.Context(), record.FleetKey).Err(); err != nil {
			t.Fatal(err)
		}
		if err := put(); err != nil {
			continue // the authority has written the hash first
		}
		made, err := w.authorities[0].CreateToken(w.admin(), &pb.CreateTokenRequest{
			AppId: "app", Name: time.Now().String(), WaitForPropagation: durationpb.New(wait),
		})
		if err != nil || !made.GetReceipt().GetComplete() {
			t.Errorf("with a key of another type: got receipt %v, %v, want it complete", made.GetReceipt(), err)
		}
		check.Eventually(t, "the fleet is written anew", func() error {
			raw, err := client.HGet(t.Context(), record.FleetKey, record.MembersField).Result()
			if err == nil {
				_, err = record.NewCodec(w.Ring, w.meta()).OpenMembers([]byte(raw))
			}
			return err
		})
	}
}
