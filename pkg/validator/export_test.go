package validator

import "github.com/countersign/countersign/pkg/replica"

// Of returns a validator that decides from a replica which it does not follow.
func Of(r *replica.Replica) *Validator {
	v := &Validator{}
	v.replica.Store(r)
	return v
}
