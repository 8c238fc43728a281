package words

import (
	"errors"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Choice is a flag for one of some values of an enum.
type Choice struct {
	// Of is the enum. Only lists the allowed values; empty allows all.
	Of   protoreflect.EnumDescriptor
	Only []protoreflect.EnumNumber
	// Number is the chosen value, 0 when nothing was chosen.
	Number protoreflect.EnumNumber
}

// Type returns the placeholder of the value in help texts.
func (*Choice) Type() string { return "word" }

// String returns the choice in the form that Set accepts; empty when there is none.
func (c *Choice) String() string {
	if c.Of == nil || c.Number == 0 {
		return ""
	}
	return strings.ToLower(strings.TrimPrefix(string(c.Of.Values().ByNumber(c.Number).Name()), prefixOf(c.Of)))
}

// Set parses a value.
func (c *Choice) Set(text string) error {
	number, err := ParseEnum(c.Of, text)
	if len(c.Only) > 0 && (err != nil || !slices.Contains(c.Only, number)) {
		return errors.New("want " + c.only())
	}
	c.Number = number
	return err
}

func (c *Choice) only() string {
	var names []string
	for _, number := range c.Only {
		one := Choice{Of: c.Of, Number: number}
		names = append(names, one.String())
	}
	return strings.Join(names, " or ")
}

// Choices is a flag for several values of an enum, separated by commas.
type Choices struct {
	// Of is the enum.
	Of protoreflect.EnumDescriptor
	// Numbers are the chosen values.
	Numbers []protoreflect.EnumNumber
}

// Type returns the placeholder of the value in help texts.
func (*Choices) Type() string { return "words" }

// String returns the choices in the form that Set accepts; empty when there is none.
func (c *Choices) String() string {
	var names []string
	for _, number := range c.Numbers {
		one := Choice{Of: c.Of, Number: number}
		names = append(names, one.String())
	}
	return strings.Join(names, ",")
}

// Set parses values and adds them.
func (c *Choices) Set(text string) error {
	for part := range strings.SplitSeq(text, ",") {
		number, err := ParseEnum(c.Of, part)
		if err != nil {
			return err
		}
		c.Numbers = append(c.Numbers, number)
	}
	return nil
}

// Has reports whether a value was chosen, or nothing was, which is everything.
func (c *Choices) Has(value protoreflect.Enum) bool {
	return len(c.Numbers) == 0 || slices.Contains(c.Numbers, value.Number())
}
