package management

import (
	"errors"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/services/authority/internal/contract"
	"github.com/countersign/countersign/services/authority/internal/rules"
)

// refused returns the error that a caller gets for an error of package rules: a refusal becomes a gRPC
// status. Other errors stay as they are.
func refused(err error) error {
	var r *rules.Error
	if !errors.As(err, &r) {
		return err
	}
	message := r.Message(contract.ScopeNames)
	switch r.Kind {
	case rules.Invalid:
		return apierr.Invalid(r.Subject, "%s", message)
	case rules.Unmet:
		return apierr.Precondition(r.Reason, r.Subject, "%s", message)
	case rules.Missing:
		return apierr.NotFound(r.Reason, "%s", message)
	case rules.Taken:
		return apierr.AlreadyExists(r.Reason, "%s", message)
	case rules.Full:
		return apierr.Exhausted(r.Reason, "%s", message)
	}
	return err
}
