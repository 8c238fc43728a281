package management

import (
	"context"
	"time"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/contract"
	"github.com/countersign/countersign/services/authority/internal/rules"
)

// GetApp implements the RPC.
func (s *Service) GetApp(ctx context.Context, r *countersignv1.GetAppRequest) (*countersignv1.GetAppResponse, error) {
	d, err := s.read(ctx, r.GetAppId())
	if err != nil {
		return nil, err
	}
	if d == nil {
		return nil, refused(rules.NoApp())
	}
	return &countersignv1.GetAppResponse{App: contract.App(d.AppID, d, time.Now())}, nil
}

// ListApps implements the RPC. It lists the apps in the replica, which may be some milliseconds behind. The
// cost of a page does not depend on the number of apps.
func (s *Service) ListApps(_ context.Context, r *countersignv1.ListAppsRequest) (*countersignv1.ListAppsResponse, error) {
	size, err := pageSize(r.GetPageSize())
	if err != nil {
		return nil, err
	}
	from, err := readAppsPage(r.GetPageToken())
	if err != nil {
		return nil, err
	}
	st, err := s.store()
	if err != nil {
		return nil, err
	}
	table := st.Replica().Table()
	response := countersignv1.ListAppsResponse{Unreachable: unreachable(st.Replica())}
	ids, more, err := table.Apps(from, size)
	if err != nil {
		return nil, err
	}
	if more {
		response.NextPageToken = writeAppsPage(ids[size-1])
	}
	now := time.Now()
	for _, id := range ids {
		entry := table.Find(id).Entry()
		if entry.Policy == nil || entry.Behind() {
			response.Apps = append(response.Apps, &countersignv1.App{AppId: id, Unverified: true})
			continue
		}
		p := entry.Policy
		app := contract.AppOf(id, entry.Revision, p.Enforcement(), p.Tokens(), p.Memory(), now)
		response.Apps = append(response.Apps, app)
	}
	return &response, nil
}

// DeleteApp implements the RPC (B28).
func (s *Service) DeleteApp(ctx context.Context, r *countersignv1.DeleteAppRequest,
) (*countersignv1.DeleteAppResponse, error) {
	if err := checkAppID(r.GetAppId()); err != nil {
		return nil, err
	}
	if err := checkEtag("etag", r.GetEtag()); err != nil {
		return nil, err
	}
	answer, _, err := perform(ctx, s, change[*countersignv1.DeleteAppResponse]{
		method: "DeleteApp", appID: r.GetAppId(), request: r, urgent: true,
		apply: func(before *record.Document, by rules.By) (*record.Document, error) {
			if err := checkAppEtag(before, r.GetEtag()); err != nil {
				return nil, err
			}
			return rules.Delete(before, by)
		},
		answer: func(*record.Document, time.Time) *countersignv1.DeleteAppResponse {
			return &countersignv1.DeleteAppResponse{}
		},
	})
	return answer, err
}

// checkAppEtag makes sure that an app was not changed since the caller read it (AIP-154).
func checkAppEtag(d *record.Document, want string) error {
	if want == "" || d != nil && contract.Etag(d.Revision) == want {
		return nil
	}
	return apierr.Aborted("STALE_ETAG", "etag: the app was changed since it was read; read it again")
}
