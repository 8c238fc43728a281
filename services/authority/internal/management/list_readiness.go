package management

import (
	"cmp"
	"context"
	"crypto/rand"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/table"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/identity"
	"github.com/countersign/countersign/services/authority/internal/ledger"
	"github.com/countersign/countersign/services/authority/internal/readiness"
	"github.com/countersign/countersign/services/store"
)

// appsAtOnce is how many apps of a partition are read with one call.
const appsAtOnce = 500

// ListReadiness implements the RPC. The first page makes the reports of all apps, and keeps them for the
// pages that follow. A list that is ordered by what changes all the time cannot be paged otherwise. Callers
// share the lists, since what a caller sees does not depend on its identity.
func (s *Service) ListReadiness(ctx context.Context, r *countersignv1.ListReadinessRequest,
) (*countersignv1.ListReadinessResponse, error) {
	size, err := pageSize(r.GetPageSize())
	if err != nil {
		return nil, err
	}
	window, err := windowOf("window", r.GetWindow())
	if err != nil {
		return nil, err
	}
	var list *snapshot
	id, at := "", 0
	if r.GetPageToken() != "" {
		if id, at, err = readReadinessPage(r.GetPageToken(), window); err != nil {
			return nil, err
		}
		if list = s.lists.find(id, time.Now()); list == nil || at > len(list.apps) {
			return nil, errListGone
		}
	} else if list, err = s.sharedList(ctx, window); err != nil {
		return nil, err
	}
	response := &countersignv1.ListReadinessResponse{Unreachable: list.unreachable}
	for bytes := 0; at < len(list.apps) && len(response.Apps) < size && bytes <= maxPageBytes; at++ {
		app, err := list.report(at)
		if err != nil {
			return nil, err
		}
		bytes += proto.Size(app)
		response.Apps = append(response.Apps, app)
	}
	if at < len(list.apps) {
		if id == "" {
			s.lists.keep(identity.From(ctx).Name, list, time.Now())
		}
		response.NextPageToken = writeReadinessPage(list.id, at, window)
	}
	return response, nil
}

func writeReadinessPage(id string, at int, window time.Duration) string {
	return writePage("readiness", id, strconv.Itoa(at), window.String())
}

func readReadinessPage(token string, window time.Duration) (id string, at int, err error) {
	fields, err := readPage(token, 4)
	if err != nil || fields[0] != "readiness" || fields[3] != window.String() {
		return "", 0, errPageToken
	}
	if at, err = strconv.Atoi(fields[2]); err != nil || at < 0 {
		return "", 0, errPageToken
	}
	return fields[1], at, nil
}

// sharedList returns the list for a window, which callers share.
func (s *Service) sharedList(ctx context.Context, window time.Duration) (*snapshot, error) {
	st, err := s.store()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	start := startOf(window, now)
	return s.shared.get(ctx, start, func(ctx context.Context) (*snapshot, error) {
		return s.makeList(ctx, st, start, now.Add(-window))
	})
}

// startOf returns the start of the hour or the day from which on a window counts, as ledger.History does. All
// windows with the same start have the same list.
func startOf(window time.Duration, now time.Time) time.Time {
	period := time.Hour
	if window >= ledger.Hours*time.Hour {
		period = 24 * time.Hour
	}
	return now.Add(-window).UTC().Truncate(period)
}

// makeList makes the reports of all apps on the requests since a time, and orders them. Start is when the
// hour or the day of that time began.
func (s *Service) makeList(ctx context.Context, st *store.Store, start, since time.Time) (*snapshot, error) {
	covered, err := s.evidence.Fleet(ctx)
	if err != nil {
		return nil, errUsage(err)
	}
	now := time.Now()
	list := &snapshot{
		id: rand.Text(), unreachable: unreachable(st.Replica()), missing: readiness.Missing(covered, start, now),
	}
	parts := make([][]shortReport, st.Replica().Table().Len())
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(2, runtime.GOMAXPROCS(0)))
	for i := range parts {
		group.Go(func() (err error) {
			parts[i], err = s.listPartition(ctx, st, i, covered, readiness.Input{
				Missing: list.missing, From: since, MaxRejectedRatio: defaultRatio, Short: true, Now: now,
			})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, errUsage(err)
	}
	list.order(slices.Concat(parts...))
	return list, nil
}

// shortReport is one app of a list.
type shortReport struct {
	appID    string
	verdict  countersignv1.ReadinessVerdict
	rejected uint64
	raw      []byte
}

// listPartition makes the reports of the apps of one partition; in has what all reports share.
func (s *Service) listPartition(ctx context.Context, st *store.Store, partition int, covered readiness.Fleet,
	in readiness.Input,
) (all []shortReport, err error) {
	p := st.Replica().Table().Partition(partition)
	if p == nil {
		return nil, nil // unreachable
	}
	var ids []string
	var entries []*table.Entry
	for appID, entry := range p.All() {
		if entry.Policy == nil || !entry.Policy.Deleted() {
			ids, entries = append(ids, appID), append(entries, entry)
		}
	}
	all = make([]shortReport, 0, len(ids))
	for some := range slices.Chunk(ids, appsAtOnce) {
		histories, err := s.evidence.Apps(ctx, partition, some)
		if err != nil {
			return nil, err
		}
		for _, appID := range some {
			own := in
			var missing []string
			if h := histories[appID]; h != nil {
				own.Sums, own.From = h.Sums(in.From)
				missing = readiness.MissingOf(h.Counted(), covered, in.From)
				own.Missing = slices.Concat(in.Missing, missing)
			}
			one, err := listApp(appID, entries[len(all)], own, missing)
			if err != nil {
				return nil, err
			}
			all = append(all, one)
		}
	}
	return all, nil
}

// listApp makes the short report of one app from its policy. The sentences on the counts that are missing of
// all apps are kept once, so the report has only those of this app.
func listApp(appID string, entry *table.Entry, in readiness.Input, missing []string) (one shortReport, err error) {
	r := &countersignv1.Readiness{AppId: appID, Verdict: incomplete}
	if entry.Policy == nil || entry.Behind() {
		r.Warnings = []string{"the policy of the app cannot be verified: `countersign store verify` says what is wrong"}
	} else {
		in.Document = documentOf(appID, entry.Policy)
		r = readiness.Report(in)
	}
	r.Missing = missing
	one = shortReport{appID: appID, verdict: r.GetVerdict()}
	for _, scope := range r.GetScopes() {
		scope.Rejections = nil
		one.rejected += scope.GetRejected()
	}
	one.raw, err = proto.Marshal(r)
	return one, err
}

const (
	notReadyVerdict = countersignv1.ReadinessVerdict_READINESS_VERDICT_NOT_READY
	incomplete      = countersignv1.ReadinessVerdict_READINESS_VERDICT_INCOMPLETE
)

// documentOf returns the part of a document that a policy has. Its tokens have no names.
func documentOf(appID string, p *policy.Policy) *record.Document {
	tokens := p.Tokens()
	d := &record.Document{AppID: appID, Enforcement: p.Enforcement(), Tokens: make([]record.Token, len(tokens))}
	for i := range tokens {
		d.Tokens[i].Token = tokens[i]
	}
	return d
}

// urgency orders verdicts, the worst first.
func urgency(v countersignv1.ReadinessVerdict) int {
	switch v {
	case notReadyVerdict:
		return 1
	case incomplete:
		return 2
	case countersignv1.ReadinessVerdict_READINESS_VERDICT_NO_TRAFFIC:
		return 3
	}
	return 4
}

// sliceBytes is the size of a slice without its elements.
const sliceBytes = 24

// order fills a list with the reports, worst first.
func (l *snapshot) order(all []shortReport) {
	slices.SortFunc(all, func(a, b shortReport) int {
		return cmp.Or(urgency(a.verdict)-urgency(b.verdict), cmp.Compare(b.rejected, a.rejected),
			cmp.Compare(a.appID, b.appID))
	})
	l.apps = make([][]byte, len(all))
	for i := range all {
		l.apps[i] = all[i].raw
		l.bytes += len(all[i].raw) + sliceBytes
	}
}
