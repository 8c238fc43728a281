package management

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/durationpb"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// newMessage returns an empty message of a type of the contract.
func newMessage(t *testing.T, of protoreflect.MessageDescriptor) proto.Message {
	t.Helper()
	kind, err := protoregistry.GlobalTypes.FindMessageByName(of.FullName())
	if err != nil {
		t.Fatal(err)
	}
	return kind.New().Interface()
}

// TestEveryChangeHasTheCommonFields: each changing method of the contract answers with the common fields, and
// commonOf sets them; content drops what a repetition may change.
func TestEveryChangeHasTheCommonFields(t *testing.T) {
	methods := countersignv1.File_countersign_v1_authority_proto.Services().ByName("AuthorityService").Methods()
	changes := 0
	for i := range methods.Len() {
		method := methods.Get(i)
		request, isChanging := newMessage(t, method.Input()).(changing)
		answer := newMessage(t, method.Output())
		if !isChanging {
			if commonOf(answer) != (common{}) {
				t.Errorf("%s is not a change, and its response has the common fields", method.Name())
			}
			continue
		}
		changes++
		fields := commonOf(answer)
		if fields.receipt == nil || fields.durability == nil {
			t.Errorf("%s: commonOf does not know its response", method.Name())
			continue
		}
		*fields.receipt, *fields.durability = &countersignv1.Receipt{}, &countersignv1.Durability{}
		if fields.consistencyToken != nil {
			*fields.consistencyToken = "token"
		} else if method.Name() != revokeSecret {
			t.Errorf("%s: commonOf sets no consistency token", method.Name())
		}
		set := map[protoreflect.Name]bool{}
		answer.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
			set[field.Name()] = true
			return true
		})
		if !set["receipt"] || !set["durability"] || set["consistency_token"] != (fields.consistencyToken != nil) {
			t.Errorf("%s: commonOf has set %v", method.Name(), set)
		}

		may := request.ProtoReflect()
		may.Set(method.Input().Fields().ByName("request_id"), protoreflect.ValueOfString("id"))
		may.Set(method.Input().Fields().ByName("wait_for_propagation"),
			protoreflect.ValueOfMessage((&durationpb.Duration{}).ProtoReflect()))
		if method.Name() == revokeSecret {
			may.Set(method.Input().Fields().ByName("allow_lockout"), protoreflect.ValueOfBool(true))
		}
		if left := content(request); proto.Size(left) != 0 {
			t.Errorf("%s: the content has what a repetition may change: %v", method.Name(), left)
		}
		if request.GetRequestId() != "id" {
			t.Errorf("%s: content has changed the request", method.Name())
		}
	}
	if changes != 8 {
		t.Errorf("the contract has %d changes, this test knows 8", changes)
	}
}
