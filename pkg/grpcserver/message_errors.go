package grpcserver

import (
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/countersign/countersign/pkg/apierr"
)

var errNoMessage = apierr.Invalid("message", "none was sent; the method takes one")

func errTooLarge(size, max int) error {
	return apierr.Exhausted("MESSAGE_TOO_LARGE", "a message of %d bytes: want at most %d", size, max)
}

// undecodable returns the error for a message that could not be decoded into the given one. It names the
// first text field that is not UTF-8, if that is the reason. It repeats nothing of the message, which may
// hold a secret.
func undecodable(data []byte, into any) error {
	message, ok := into.(proto.Message)
	if !ok {
		return apierr.Invalid("message", "is not what the method takes")
	}
	descriptor := message.ProtoReflect().Descriptor()
	if field := notUTF8(descriptor, data); field != "" {
		return apierr.Invalid(field, "want UTF-8")
	}
	return apierr.Invalid("message", "is not a %s in the encoding of Protocol Buffers", descriptor.FullName())
}

// notUTF8 returns the path of the first string field of an encoded message that is not UTF-8, such as
// imports[2].name. It is empty when there is no such field, or the encoding is broken before it.
func notUTF8(message protoreflect.MessageDescriptor, data []byte) string {
	count := map[protowire.Number]int{}
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return ""
		}
		data = data[n:]
		size := protowire.ConsumeFieldValue(number, kind, data)
		if size < 0 {
			return ""
		}
		value := data[:size]
		data = data[size:]
		field := message.Fields().ByNumber(number)
		if field == nil || kind != protowire.BytesType {
			continue
		}
		path := string(field.Name())
		if field.IsList() {
			path = fmt.Sprintf("%s[%d]", path, count[number])
			count[number]++
		}
		content, _ := protowire.ConsumeBytes(value)
		switch {
		case field.Kind() == protoreflect.StringKind && !utf8.Valid(content):
			return path
		case field.Kind() == protoreflect.MessageKind:
			if below := notUTF8(field.Message(), content); below != "" {
				return path + "." + below
			}
		}
	}
	return ""
}
