package authorize_test

import (
	"strings"
	"testing"

	"github.com/countersign/countersign/pkg/testkit/rawgrpc"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// TestMessageThatNeverComes: the server ends a call that sends nothing, only a part of its message, or all
// but the end of the call. It also ends a stream in the middle of a message, but not one between two
// messages.
func TestMessageThatNeverComes(t *testing.T) {
	d := startDemo(t)
	conn := rawgrpc.Dial(t, d.cluster.Validators[0])
	calls := map[string]uint32{}
	for name, method := range map[string]string{
		"call":   countersignv1.ValidatorService_Authorize_FullMethodName,
		"stream": countersignv1.BulkValidatorService_AuthorizeStream_FullMethodName,
	} {
		calls[name] = conn.Open(method)
		conn.Announce(calls[name], 1000)
		conn.Send(calls[name], make([]byte, 999))
	}
	calls["header"] = conn.Open(countersignv1.ValidatorService_Authorize_FullMethodName)
	calls["no end"] = conn.Open(countersignv1.ValidatorService_Authorize_FullMethodName)
	conn.Announce(calls["no end"], 0)
	idle := conn.Open(countersignv1.BulkValidatorService_AuthorizeStream_FullMethodName)
	for name, call := range calls {
		if code, words := conn.Status(call); code != "8" || !strings.Contains(words, "did not arrive within 10 s") {
			t.Errorf("%s: %s %s", name, code, words)
		}
	}
	conn.Announce(idle, 0)
	conn.Message(idle)
}
