package redisfeed

import (
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/countersign/countersign/pkg/replica"
)

// TypeError says that a key holds a value of the wrong type.
type TypeError struct {
	// Key is the key, Want the type that it should have.
	Key, Want string
	cause     error
}

// Error names the key, and what to do.
func (e *TypeError) Error() string {
	return fmt.Sprintf("%s is not a %s (countersign store repair): %v", e.Key, e.Want, e.cause)
}

// Unwrap returns replica.ErrWrongType and Redis's own error.
func (e *TypeError) Unwrap() []error { return []error{replica.ErrWrongType, e.cause} }

// Typed turns Redis's error about the type of a key into a TypeError. It returns any other error as it is.
func Typed(key, want string, err error) error {
	if IsWrongType(err) {
		return &TypeError{key, want, err}
	}
	return err
}

// IsWrongType reports whether Redis refused a command because a key holds a value of the wrong type.
func IsWrongType(err error) bool {
	var answer redis.Error
	return errors.As(err, &answer) && strings.HasPrefix(answer.Error(), "WRONGTYPE")
}
