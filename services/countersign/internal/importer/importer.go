// Package importer sends the tokens of a file to an authority, app by app, several apps at the same time
// (B11). A token that the authority refuses does not stop the others. This package is not part of the public
// API and may change in any release.
package importer

import (
	"context"
	"errors"
	"sync"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/importfile"
)

const (
	// parallel is the number of apps that are imported at the same time.
	parallel = 8
	// maxBatch is the number of tokens that one call may import.
	maxBatch = 1000
	// maxTokens is the number of ACTIVE and DISABLED tokens that an app may have (B01).
	maxTokens = 1000
)

// ErrInterrupted ends an import whose context was cancelled. The calls that were in flight are finished.
var ErrInterrupted = errors.New("interrupted")

// Authority is what an import needs of the authority.
type Authority interface {
	ImportTokens(context.Context, *countersignv1.ImportTokensRequest, ...grpc.CallOption,
	) (*countersignv1.ImportTokensResponse, error)
	ListTokens(context.Context, *countersignv1.ListTokensRequest, ...grpc.CallOption,
	) (*countersignv1.ListTokensResponse, error)
	GetApp(context.Context, *countersignv1.GetAppRequest, ...grpc.CallOption) (*countersignv1.GetAppResponse, error)
}

// Options says how to import.
type Options struct {
	// Resume counts a token whose secret its app has, or had, as done. Otherwise it is refused.
	Resume bool
	// DryRun changes nothing. It refuses what the lists of the authority show to be impossible. They do not
	// show digests, so a secret that an app has already is noticed only when it is imported.
	DryRun bool
	// RequestID makes the request ids of this import differ from those of other imports of the same file.
	RequestID string
	// Progress, if not nil, gets the counts after each step. Calls do not overlap.
	Progress func(Counts)
}

// Counts says how many tokens of a file had each outcome.
type Counts struct {
	// Total is the number of tokens of the file that could be sent.
	Total int
	// Imported is the number of new tokens; in a dry run, of those that nothing speaks against.
	Imported int
	// There is the number of tokens whose secret the app had already. Only when resuming.
	There int
	// Refused is the number of tokens that the authority refused.
	Refused int
}

// NotTried returns the number of tokens that were not sent, or whose outcome is unknown.
func (c Counts) NotTried() int { return c.Total - c.Imported - c.There - c.Refused }

// Result is the outcome of an import.
type Result struct {
	Counts
	// Apps is the number of apps that got new tokens.
	Apps int
	// Refusals say why tokens were refused, in the order of the file.
	Refusals []importfile.Refusal
	// ConsistencyTokens identify the last change of each app that was changed.
	ConsistencyTokens []string
	// Durability is that of the least durable change; nil when the authority waits for no Redis replica.
	Durability *countersignv1.Durability
}

// Run imports the rows. It returns the result also together with an error, which says why the import stopped
// early: ErrInterrupted, or an error that would hit all apps. Running it again with Resume goes on. It calls
// the authority from several goroutines, and all of them have ended when it returns.
func Run(ctx context.Context, authority Authority, rows []importfile.Row, o Options) (*Result, error) {
	r := &run{authority: authority, options: o}
	r.result.Total = len(rows)
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, app := range byApp(rows) {
		if inner.Err() != nil {
			break
		}
		group.Go(func() error { return r.app(inner, app) })
	}
	err := group.Wait()
	switch {
	case r.result.NotTried() == 0:
		err = nil
	case ctx.Err() != nil:
		err = ErrInterrupted
	}
	r.result.Refusals = importfile.InOrder(r.result.Refusals)
	return &r.result, err
}

// byApp returns the rows of each app, in the order of the file.
func byApp(rows []importfile.Row) [][]importfile.Row {
	var apps [][]importfile.Row
	at := map[string]int{}
	for _, row := range rows {
		i, known := at[row.AppID]
		if !known {
			i = len(apps)
			at[row.AppID], apps = i, append(apps, nil)
		}
		apps[i] = append(apps[i], row)
	}
	return apps
}

// run is one import.
type run struct {
	authority Authority
	options   Options

	mu     sync.Mutex
	result Result
}

// count changes the result, and shows the progress.
func (r *run) count(change func(*Result)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.result)
	if r.options.Progress != nil {
		r.options.Progress(r.result.Counts)
	}
}

// refuse counts rows that cannot be imported, all for the same reason.
func (r *run) refuse(rows []importfile.Row, field, reason string) {
	r.count(func(result *Result) {
		result.Refused += len(rows)
		for _, row := range rows {
			result.Refusals = append(result.Refusals, importfile.Refusal{Line: row.Line, Field: field, Reason: reason})
		}
	})
}
