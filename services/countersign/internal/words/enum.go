// Package words parses flags and formats values of the contract for people: scopes, states, times and
// durations. This package is not part of the public API and may change in any release.
package words

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Enum returns the name of an enum's value without the prefix of all its values: EVENTS for SCOPE_EVENTS. For
// a value of a newer server, which this program does not know, it returns the number.
func Enum(value protoreflect.Enum) string {
	descriptor := value.Descriptor()
	if known := descriptor.Values().ByNumber(value.Number()); known != nil {
		return strings.TrimPrefix(string(known.Name()), prefixOf(descriptor))
	}
	return fmt.Sprint(value.Number())
}

// prefixOf returns the prefix of an enum's names. The value 0 is named <PREFIX>UNSPECIFIED.
func prefixOf(descriptor protoreflect.EnumDescriptor) string {
	return strings.TrimSuffix(string(descriptor.Values().ByNumber(0).Name()), "UNSPECIFIED")
}

// ParseEnum finds a value by its name, in either case, with or without the prefix. It does not accept the
// value 0. The error does not repeat the text, which may be a secret in the wrong place.
func ParseEnum(descriptor protoreflect.EnumDescriptor, text string) (protoreflect.EnumNumber, error) {
	name := strings.ToUpper(strings.TrimSpace(text))
	name = strings.TrimPrefix(name, prefixOf(descriptor))
	value := descriptor.Values().ByName(protoreflect.Name(prefixOf(descriptor) + name))
	if value == nil || value.Number() == 0 {
		return 0, fmt.Errorf("want %s", strings.Join(EnumNames(descriptor), ", "))
	}
	return value.Number(), nil
}

// EnumNames returns the names that ParseEnum accepts, in lower case.
func EnumNames(descriptor protoreflect.EnumDescriptor) []string {
	var names []string
	for i := range descriptor.Values().Len() {
		if value := descriptor.Values().Get(i); value.Number() != 0 {
			names = append(names, strings.ToLower(strings.TrimPrefix(string(value.Name()), prefixOf(descriptor))))
		}
	}
	return names
}
