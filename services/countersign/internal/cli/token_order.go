package cli

import (
	"cmp"
	"errors"

	"google.golang.org/protobuf/types/known/timestamppb"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/show"
)

// tokenOrder is a flag for the order of a list of tokens.
type tokenOrder string

var tokenOrders = map[tokenOrder]func(a, b *countersignv1.Token) int{
	"created": func(_, _ *countersignv1.Token) int { return 0 }, // the order of the authority
	"name":    func(a, b *countersignv1.Token) int { return cmp.Compare(a.GetName(), b.GetName()) },
	"last-use": func(a, b *countersignv1.Token) int {
		return compareTimes(show.LastUse(a.GetLastUses()), show.LastUse(b.GetLastUses()), -1)
	},
	"expires": func(a, b *countersignv1.Token) int { return compareTimes(a.GetExpireTime(), b.GetExpireTime(), 1) },
}

// compareTimes compares two times. Absent ones come first with -1 and last with 1.
func compareTimes(a, b *timestamppb.Timestamp, absent int) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return absent
	case b == nil:
		return -absent
	}
	return a.AsTime().Compare(b.AsTime())
}

// Type returns the placeholder of the value in help texts.
func (*tokenOrder) Type() string { return "order" }

// String returns the order in the form that Set accepts.
func (o *tokenOrder) String() string { return string(*o) }

// Set parses an order.
func (o *tokenOrder) Set(text string) error {
	if tokenOrders[tokenOrder(text)] == nil {
		return errors.New("want created, name, last-use or expires")
	}
	*o = tokenOrder(text)
	return nil
}

func (o *tokenOrder) compare(a, b *countersignv1.Token) int { return tokenOrders[*o](a, b) }
