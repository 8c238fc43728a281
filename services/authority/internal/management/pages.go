package management

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/contract"
	"github.com/countersign/countersign/services/authority/internal/rules"
)

const (
	defaultPageSize = 100
	maxPageSize     = 1000
	// maxPageBytes ends a page early, so that it fits into a gRPC message of the usual 4 MiB.
	maxPageBytes = 3 << 20
)

// pageSize reads a page size (AIP-158).
func pageSize(n int32) (int, error) {
	switch {
	case n < 0:
		return 0, apierr.Invalid("page_size", "want 0 to %d", maxPageSize)
	case n == 0:
		return defaultPageSize, nil
	}
	return int(min(n, maxPageSize)), nil
}

var errPageToken = apierr.Invalid("page_token", "want one that was answered to the same list")

// writePage makes a page token, which holds the end of the page before. The token is opaque, so it is
// encoded. It grants nothing, so it is not signed.
func writePage(parts ...string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strings.Join(parts, "\n")))
}

func readPage(token string, parts int) ([]string, error) {
	data, err := base64.RawURLEncoding.Strict().DecodeString(token)
	fields := strings.Split(string(data), "\n")
	if err != nil || len(fields) != parts || len(token) > 512 {
		return nil, errPageToken
	}
	return fields, nil
}

func writeAppsPage(last string) string { return writePage("apps", last) }

func readAppsPage(token string) (last string, err error) {
	if token == "" {
		return "", nil
	}
	fields, err := readPage(token, 2)
	if err != nil || fields[0] != "apps" || !policy.ValidAppID(fields[1]) {
		return "", errPageToken
	}
	return fields[1], nil
}

// ListTokens implements the RPC (B06).
func (s *Service) ListTokens(ctx context.Context, r *countersignv1.ListTokensRequest,
) (*countersignv1.ListTokensResponse, error) {
	if err := checkAppID(r.GetAppId()); err != nil {
		return nil, err
	}
	size, err := pageSize(r.GetPageSize())
	if err != nil {
		return nil, err
	}
	list := fmt.Sprintf("tokens %s %t", r.GetAppId(), r.GetShowRevoked())
	var lastID string
	var lastMillis int64
	if r.GetPageToken() != "" {
		fields, err := readPage(r.GetPageToken(), 3)
		if err != nil || fields[0] != list {
			return nil, errPageToken
		}
		lastID = fields[1]
		if _, err := fmt.Sscanf(fields[2], "%d", &lastMillis); err != nil {
			return nil, errPageToken
		}
	}
	d, err := s.read(ctx, r.GetAppId())
	if err != nil || d == nil {
		return &countersignv1.ListTokensResponse{}, err
	}
	now := time.Now()
	var response countersignv1.ListTokensResponse
	uses := s.lastUses(ctx, r.GetAppId())
	bytes := 0
	for i := startAfter(d, lastID, lastMillis); i < len(d.Tokens); i++ {
		t := &d.Tokens[i]
		if !listed(t, r.GetShowRevoked(), now) {
			continue
		}
		if n := len(response.Tokens); n == size || bytes > maxPageBytes {
			last := response.Tokens[n-1]
			response.NextPageToken = writePage(list, last.GetTokenId(), fmt.Sprint(last.GetCreateTime().AsTime().UnixMilli()))
			break
		}
		token := contract.Token(t, now)
		token.LastUses = uses[t.ID]
		bytes += proto.Size(token)
		response.Tokens = append(response.Tokens, token)
	}
	return &response, nil
}

// startAfter returns the index of the first token of the next page. Tokens are in the order of their
// creation. When the last token of the page before is no longer listed, the next page begins with the first
// token that was created later.
func startAfter(d *record.Document, lastID string, lastMillis int64) int {
	if lastID == "" {
		return 0
	}
	next := len(d.Tokens)
	for i := range d.Tokens {
		if d.Tokens[i].ID == lastID {
			return i + 1
		}
		if next == len(d.Tokens) && d.Tokens[i].CreateMillis > lastMillis {
			next = i
		}
	}
	return next
}

// listed tells whether a list shows a token: ACTIVE and DISABLED tokens always, ended ones on request and for
// 30 days.
func listed(t *record.Token, ended bool, now time.Time) bool {
	switch t.StateAt(now.UnixMilli()) {
	case policy.Revoked, policy.Expired:
		return ended && rules.Listed(t, now.UnixMilli())
	}
	return true
}
