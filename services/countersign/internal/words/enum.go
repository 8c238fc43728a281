// Package words is how people write and read what the contract has: scopes, states, times and durations. It
// parses flags and writes cells; it calls nobody.
package words

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Enum returns the name of an enum's value without the prefix that all its values share: EVENTS for
// SCOPE_EVENTS. A number that this program does not know, since the server is newer, is returned as it is.
func Enum(value protoreflect.Enum) string {
	descriptor := value.Descriptor()
	if known := descriptor.Values().ByNumber(value.Number()); known != nil {
		return strings.TrimPrefix(string(known.Name()), prefixOf(descriptor))
	}
	return fmt.Sprint(value.Number())
}

// prefixOf returns what the names of an enum's values begin with. The value 0 is named <PREFIX>UNSPECIFIED.
func prefixOf(descriptor protoreflect.EnumDescriptor) string {
	return strings.TrimSuffix(string(descriptor.Values().ByNumber(0).Name()), "UNSPECIFIED")
}

// ParseEnum finds a value by its name, in either case, with or without the prefix. The value 0 has no name
// here: who means nothing writes nothing. The error does not repeat the text, which may be a secret in the
// wrong place.
func ParseEnum(descriptor protoreflect.EnumDescriptor, text string) (protoreflect.EnumNumber, error) {
	name := strings.ToUpper(strings.TrimSpace(text))
	name = strings.TrimPrefix(name, prefixOf(descriptor))
	value := descriptor.Values().ByName(protoreflect.Name(prefixOf(descriptor) + name))
	if value == nil || value.Number() == 0 {
		return 0, fmt.Errorf("want %s", strings.Join(EnumNames(descriptor), ", "))
	}
	return value.Number(), nil
}

// EnumNames returns what ParseEnum takes, in lower case, as the help texts write it.
func EnumNames(descriptor protoreflect.EnumDescriptor) []string {
	var names []string
	for i := range descriptor.Values().Len() {
		if value := descriptor.Values().Get(i); value.Number() != 0 {
			names = append(names, strings.ToLower(strings.TrimPrefix(string(value.Name()), prefixOf(descriptor))))
		}
	}
	return names
}
