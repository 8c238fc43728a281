// Package fleet is the FleetService: what validators report to.
package fleet

import (
	"google.golang.org/grpc"

	"github.com/countersign/countersign/pkg/apierr"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// Service implements countersignv1.FleetServiceServer.
type Service struct {
	countersignv1.UnimplementedFleetServiceServer
}

// Report answers UNIMPLEMENTED.
func (Service) Report(grpc.BidiStreamingServer[countersignv1.ReportRequest, countersignv1.ReportResponse]) error {
	return apierr.Unimplemented("Report is not served by this release")
}
