package validator

import "github.com/countersign/countersign/pkg/replica"

// Of returns a validator that decides from a replica without running it.
func Of(r *replica.Replica) *Validator {
	v := &Validator{}
	v.replica.Store(r)
	return v
}
