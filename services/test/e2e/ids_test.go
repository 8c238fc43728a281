package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/countersign/countersign/pkg/testkit/check"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/test/cluster"
	validator "github.com/countersign/countersign/services/validator/server"
)

// TestB24_TwoOfOneID: of two validators with the same id, the authority rejects the one that started first.
// This validator shows it on /readyz and in a metric, and stays ready. The authority's list shows it too.
func TestB24_TwoOfOneID(t *testing.T) {
	w := start(t, cluster.Options{Report: true})
	get := func(address, path string) string {
		t.Helper()
		response := check.Must(http.Get("http://" + address + path))(t)
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Errorf("%s is %s", path, response.Status)
		}
		return string(check.Must(io.ReadAll(response.Body))(t))
	}
	older := w.ValidatorProcesses[0].HTTPAddress
	const says, counts = "another validator has this one's id", "\ncountersign_validator_id_taken 1\n"
	if text := get(older, "/readyz") + get(older, "/metrics"); strings.Contains(text, says) || strings.Contains(text, counts) {
		t.Errorf("before the second validator starts: %s", text)
	}
	newer := w.StartValidator(t, func(c *validator.Config) { c.Fleet = w.Fleet("validator-1", w.Authority) })
	check.Eventually(t, "it is said", func() error {
		list := check.Must(w.management.ListValidators(w.admin, &countersignv1.ListValidatorsRequest{}))(t).GetValidators()
		if ready, metrics := get(older, "/readyz"), get(older, "/metrics"); !strings.Contains(ready, says) ||
			!strings.Contains(metrics, counts) ||
			len(list) != 2 || !list[0].GetIdContested() {
			return fmt.Errorf("%s, %v", ready, list)
		}
		return nil
	})
	if text := get(newer.HTTPAddress, "/metrics"); strings.Contains(text, counts) {
		t.Error("the validator that started later shows that its id is taken, want only the earlier one to show it")
	}
}
