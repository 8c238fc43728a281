package embedded

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/redisfeed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestNeedsPassword: other users of the machine can neither read nor write the embedded store.
func TestNeedsPassword(t *testing.T) {
	ring := keyring.Generate()
	r, err := StartStore(t.Context(), ring)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, tt := range []struct {
		url  string
		want bool
	}{{r.URL, true}, {"redis://" + r.Addr() + "/0", false}} {
		client, err := redisfeed.Open(tt.url, redisfeed.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Meta(t.Context(), ring); (err == nil) != tt.want {
			t.Errorf("meta: %v, want it readable: %t", err, tt.want)
		}
		_ = client.Close()
	}
}
