package server

import (
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/countersign/countersign/pkg/testkit/rawgrpc"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/internal/adminkeys"
)

// TestB26_EveryCallIsRefusedByItsHeader: a caller without an identity, or with too small a role, is refused before anything of a
// message is read, so that none takes memory. The call sends its header and nothing else: reading would wait for ever.
func TestB26_EveryCallIsRefusedByItsHeader(t *testing.T) {
	file := t.TempDir() + "/admin-keys.json"
	viewer, err := adminkeys.Add(file, "vera", adminkeys.Viewer)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(config("127.0.0.1:0", func(c *Config) { c.AdminKeysFile = file }))
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	conn := rawgrpc.Dial(t, s.Addr().String())
	for _, service := range []grpc.ServiceDesc{countersignv1.AuthorityService_ServiceDesc, countersignv1.FleetService_ServiceDesc} {
		var methods []string
		for _, m := range service.Methods {
			methods = append(methods, m.MethodName)
		}
		for _, m := range service.Streams {
			methods = append(methods, m.StreamName)
		}
		for _, method := range methods {
			name := "/" + service.ServiceName + "/" + method
			if code, words := conn.Status(conn.Open(name)); code != "16" || !strings.Contains(words, "no credential") {
				t.Errorf("%s without an identity: %s %s", method, code, words)
			}
			if code, _ := conn.Status(conn.Open(name, "authorization", "Bearer nonsense")); code != "16" {
				t.Errorf("%s with nonsense: %s", method, code)
			}
			if strings.HasPrefix(method, "Get") || strings.HasPrefix(method, "List") || strings.HasPrefix(method, "Wait") {
				continue
			}
			code, words := conn.Status(conn.Open(name, "authorization", "Bearer "+viewer.Reveal()))
			if code != "7" || !strings.Contains(words, "role viewer") {
				t.Errorf("%s by a viewer: %s %s", method, code, words)
			}
		}
	}
}
