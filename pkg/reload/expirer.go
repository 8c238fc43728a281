package reload

import (
	"fmt"
	"time"
)

// Expirer is a value that is valid from one time until another, such as a certificate. A zero time means no
// bound. A value that is not valid now does not replace a valid one. A value that is not valid yet is put to
// use when its time comes.
type Expirer interface {
	Begins() time.Time
	Expires() time.Time
}

func expiryOf(value any) time.Time {
	if e, is := value.(Expirer); is {
		return e.Expires()
	}
	return time.Time{}
}

// checkValidity returns an error when a value that is not valid now would replace a valid one.
func checkValidity(current, next any, now time.Time) error {
	if validAt(current, now) == nil {
		return validAt(next, now)
	}
	return nil
}

// validAt returns an error when a value is not valid now. A value that is not an Expirer is always valid.
func validAt(value any, now time.Time) error {
	e, is := value.(Expirer)
	if !is {
		return nil
	}
	if at := e.Begins(); at.After(now) {
		return fmt.Errorf("it is not valid before %s; it is used then", at.UTC().Format(time.RFC3339))
	}
	if at := e.Expires(); !at.IsZero() && !at.After(now) {
		return fmt.Errorf("it expired at %s", at.UTC().Format(time.RFC3339))
	}
	return nil
}
