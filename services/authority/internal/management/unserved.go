package management

import (
	"context"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// ListAuditEvents answers UNIMPLEMENTED.
func (*Service) ListAuditEvents(context.Context, *countersignv1.ListAuditEventsRequest,
) (*countersignv1.ListAuditEventsResponse, error) {
	return nil, notServed("ListAuditEvents")
}
