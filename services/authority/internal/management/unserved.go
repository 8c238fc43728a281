package management

import (
	"context"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// GetReadiness answers UNIMPLEMENTED.
func (*Service) GetReadiness(context.Context, *countersignv1.GetReadinessRequest) (*countersignv1.GetReadinessResponse, error) {
	return nil, notServed("GetReadiness")
}

// WaitForPropagation answers UNIMPLEMENTED.
func (*Service) WaitForPropagation(context.Context, *countersignv1.WaitForPropagationRequest) (*countersignv1.WaitForPropagationResponse, error) {
	return nil, notServed("WaitForPropagation")
}

// ListValidators answers UNIMPLEMENTED.
func (*Service) ListValidators(context.Context, *countersignv1.ListValidatorsRequest) (*countersignv1.ListValidatorsResponse, error) {
	return nil, notServed("ListValidators")
}

// ListAuditEvents answers UNIMPLEMENTED.
func (*Service) ListAuditEvents(context.Context, *countersignv1.ListAuditEventsRequest) (*countersignv1.ListAuditEventsResponse, error) {
	return nil, notServed("ListAuditEvents")
}
