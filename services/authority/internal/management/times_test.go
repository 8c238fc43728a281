package management_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// times returns the paths of all times in a message, such as token.expire_time.
func times(m protoreflect.MessageDescriptor) (paths []string) {
	fields := m.Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		switch {
		case field.Message() == nil:
		case field.Message().FullName() == "google.protobuf.Timestamp":
			paths = append(paths, string(field.Name()))
		default:
			for _, below := range times(field.Message()) {
				paths = append(paths, string(field.Name())+"."+below)
			}
		}
	}
	return paths
}

// TestZeroTimesAreRefused: a time that a client left at its zero value does not mean "never". It is rejected,
// and the field is named. The test lists every time of a request, so that a new one is not forgotten.
func TestZeroTimesAreRefused(t *testing.T) {
	w := newWorld(t)
	f := w.fixture(t)
	requests := map[string]func(at *timestamppb.Timestamp) proto.Message{
		"CreateToken expire_time": func(at *timestamppb.Timestamp) proto.Message {
			return &pb.CreateTokenRequest{AppId: f.off, Name: "new", ExpireTime: at}
		},
		"UpdateToken token.expire_time": func(at *timestamppb.Timestamp) proto.Message {
			return &pb.UpdateTokenRequest{
				AppId: f.off, Token: &pb.Token{TokenId: f.offToken, ExpireTime: at},
				UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"expire_time"}},
			}
		},
		"SetEnforcement trial_end_time": func(at *timestamppb.Timestamp) proto.Message {
			return &pb.SetEnforcementRequest{
				AppId: f.off, Scopes: []pb.Scope{events}, TrialEndTime: at, AllowRejections: true,
			}
		},
	}
	// The authority sets these; update_mask cannot name them.
	ignored := map[string]bool{
		"create_time": true, "update_time": true, "revoke_time": true, "overlap_end_time": true,
		"last_uses.use_time": true,
	}
	methods := pb.File_countersign_v1_authority_proto.Services().ByName("AuthorityService").Methods()
	for i := range methods.Len() {
		method := methods.Get(i)
		for _, path := range times(method.Input()) {
			if below, ofToken := strings.CutPrefix(path, "token."); ofToken && ignored[below] {
				continue
			}
			request, known := requests[string(method.Name())+" "+path]
			if !known {
				t.Errorf("%s: %s is not in the table", method.Name(), path)
				continue
			}
			for name, at := range map[string]*timestamppb.Timestamp{
				"Timestamp{}": {}, "time.Time{}": timestamppb.New(time.Time{}), "1 s before 1970": {Seconds: -1},
				"0.9 ms after 1970": {Nanos: 900_000},
			} {
				t.Run(string(method.Name())+" "+name, func(t *testing.T) {
					_, err := w.invoke(t, string(method.Name()), request(at))
					wantFailure(t, err, invalid(path))
				})
			}
		}
	}
}
