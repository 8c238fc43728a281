package validator

import "github.com/countersign/countersign/pkg/replica"

// Of returns a validator that decides from the given replica. It does not run the replica.
func Of(r *replica.Replica) *Validator {
	v := &Validator{}
	v.replica.Store(r)
	return v
}
