package importer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/pkg/apierr"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/importfile"
)

// run imports rows, and checks that the counts and the refusals agree.
func runImport(ctx context.Context, t rapid.TB, a *authority, rows []importfile.Row, o Options) (*Result, error) {
	t.Helper()
	result, err := Run(ctx, a, rows, o)
	if len(result.Refusals) != result.Refused || result.Total != len(rows) || result.NotTried() < 0 {
		t.Errorf("%+v", result)
	}
	if err == nil && result.NotTried() != 0 {
		t.Errorf("no error, and %d were not tried", result.NotTried())
	}
	return result, err
}

func wantCounts(t rapid.TB, r *Result, imported, there, refused int) {
	t.Helper()
	if r.Imported != imported || r.There != there || r.Refused != refused {
		t.Errorf("imported %d, there %d, refused %d; want %d, %d, %d", r.Imported, r.There, r.Refused, imported, there, refused)
	}
}

// TestB11_TheRestIsImported: a refused token is named with its line and its field, and stops no other.
func TestB11_TheRestIsImported(t *testing.T) {
	a := newAuthority()
	mustRun(t, a, rowsOf("shop", 7, 500), Options{})
	rows := rowsOf("shop", upTo(900)...)
	// Only the name of this one is taken.
	rows[500].Import.Credential = &countersignv1.TokenImport_Secret{Secret: fmt.Sprintf("%032x", 5000)}
	rows[600].Import.Scopes = nil
	a.enforced["shop"] = true
	rows = append(rows, rowsOf("other", upTo(3)...)...)
	calls := a.calls
	r := mustRun(t, a, rows, Options{RequestID: "second"})
	wantCounts(t, r, 900, 0, 3)
	want := []string{
		"line 9: secret: a token has the same secret", "line 502: name: an active or disabled token of the app has this name",
		"line 602: scopes: want at least one scope",
	}
	for i, refusal := range r.Refusals {
		if refusal.String() != want[i] {
			t.Errorf("%q, want %q", refusal, want[i])
		}
	}
	if n := a.calls - calls; n > 20 {
		t.Errorf("%d calls for 3 bad rows", n)
	}
	if len(r.ConsistencyTokens) != 2 || r.Apps != 2 {
		t.Errorf("%d apps, positions %q", r.Apps, r.ConsistencyTokens)
	}
}

func mustRun(t rapid.TB, a *authority, rows []importfile.Row, o Options) *Result {
	t.Helper()
	r, err := runImport(context.Background(), t, a, rows, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestB11_Again: the same file again is refused, or counted when resuming; also when the authority has
// forgotten the request ids. A file with the same names and other secrets is never taken for the same file.
func TestB11_Again(t *testing.T) {
	a := newAuthority()
	rows := append(rowsOf("shop", upTo(50)...), rowsOf("other", upTo(10)...)...)
	wantCounts(t, mustRun(t, a, rows, Options{}), 60, 0, 0)
	wantCounts(t, mustRun(t, a, rows, Options{}), 0, 0, 60)
	calls := a.calls
	wantCounts(t, mustRun(t, a, rows, Options{Resume: true}), 0, 60, 0)
	if a.calls != calls+2 {
		t.Errorf("%d calls: the authority must recognise the calls of the run before", a.calls-calls)
	}
	a.forget()
	wantCounts(t, mustRun(t, a, rows, Options{}), 0, 0, 60)
	wantCounts(t, mustRun(t, a, rows, Options{Resume: true}), 0, 60, 0)
	wantCounts(t, mustRun(t, a, append(rows, rowsOf("shop", 50, 51)...), Options{Resume: true}), 2, 60, 0)
	for i := range rows {
		rows[i].Import.Credential = &countersignv1.TokenImport_Secret{Secret: fmt.Sprintf("%032x", 7000+i)}
	}
	wantCounts(t, mustRun(t, a, rows, Options{Resume: true}), 0, 0, 60)
	if a.count() != 62 {
		t.Errorf("%d tokens", a.count())
	}
}

// TestB01_TheAppIsFull: an app has at most 1,000 tokens. The others fit as far as there is room.
func TestB01_TheAppIsFull(t *testing.T) {
	for _, resume := range []bool{false, true} {
		a := newAuthority()
		mustRun(t, a, rowsOf("shop", upTo(300)...), Options{})
		rows := append(rowsOf("shop", upTo(1101)[300:]...), rowsOf("other", 1)...)
		dry := mustRun(t, a, rows, Options{DryRun: true})
		wantCounts(t, dry, 701, 0, 101)
		r := mustRun(t, a, rows, Options{Resume: resume})
		wantCounts(t, r, 701, 0, 101)
		if last := r.Refusals[100].String(); last != "line 1102: app_id: the app would have 1001 active or disabled tokens" &&
			!strings.HasPrefix(last, "line 1102: app_id: the app would have") {
			t.Error(last)
		}
		wantCounts(t, mustRun(t, a, rows, Options{Resume: true}), 0, 701, 101)
	}
}

// An app that the caller may not change, or that cannot be read, stops no other app.
func TestOneAppFails(t *testing.T) {
	a := newAuthority()
	a.before = func(_ int, r *importRequest) error {
		switch r.GetAppId() {
		case "denied":
			return overTheWire(apierr.PermissionDenied("the role does not reach this app"))
		case "damaged":
			return overTheWire(apierr.Unavailable(apierr.PolicyUnverified, "the policy cannot be verified"))
		}
		return nil
	}
	rows := slices.Concat(rowsOf("denied", 1, 2), rowsOf("damaged", 3), rowsOf("shop", 4))
	r := mustRun(t, a, rows, Options{})
	wantCounts(t, r, 1, 0, 3)
	if got := r.Refusals[2].String(); got != "line 5: app_id: the policy cannot be verified" {
		t.Error(got)
	}
}

// An error that would hit every app stops the import at once, and nothing is refused for it.
func TestTheAuthorityRefusesTheCaller(t *testing.T) {
	a := newAuthority()
	a.before = func(int, *importRequest) error { return overTheWire(apierr.Unauthenticated("who are you?")) }
	var rows []importfile.Row
	for i := range 100 {
		rows = append(rows, rowsOf(fmt.Sprint("app", i), 1)...)
	}
	r, err := runImport(t.Context(), t, a, rows, Options{})
	if status.Code(err) != codes.Unauthenticated || r.NotTried() != 100 || a.calls > 2*parallel {
		t.Errorf("%v, %+v, %d calls", err, r, a.calls)
	}
}

// A lost reply is not a second token: the call is repeated with the same request id.
func TestLostReplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority()
		a.before = func(call int, _ *importRequest) error {
			if call%5 == 1 {
				return overTheWire(apierr.Unavailable(apierr.StoreUnavailable, "a failover"))
			}
			return nil
		}
		a.after = func(call int, _ *importRequest) error {
			if call%5 == 3 {
				return overTheWire(apierr.Unavailable(apierr.OutcomeUnknown, "the reply is lost"))
			}
			return nil
		}
		var rows []importfile.Row
		for i := range 40 {
			rows = append(rows, rowsOf(fmt.Sprint("app", i), upTo(20)...)...)
		}
		wantCounts(t, mustRun(t, a, rows, Options{}), 800, 0, 0)
		if a.count() != 800 {
			t.Errorf("%d tokens", a.count())
		}
	})
}

// TestB11_Interrupted: an import that is stopped anywhere, also with a lost reply, and resumed imports every
// row exactly once, and refuses what an import in one go would have refused.
func TestB11_Interrupted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := newAuthority()
		var rows []importfile.Row
		for app := range rapid.IntRange(1, 12).Draw(t, "apps") {
			rows = append(rows, rowsOf(fmt.Sprint("app", app), upTo(rapid.IntRange(1, 30).Draw(t, "rows"))...)...)
		}
		bad := 0
		for i := range rows {
			rows[i].Line = i + 1
			if rapid.IntRange(0, 9).Draw(t, "bad") == 0 {
				bad++
				rows[i].Import.Scopes = nil
				a.enforced[rows[i].AppID] = true
			}
		}
		for round := 0; ; round++ {
			ctx, interrupt := context.WithCancel(context.Background())
			stop, lost := a.calls+rapid.IntRange(1, 20).Draw(t, "stop after"), rapid.Bool().Draw(t, "lost")
			a.after = func(call int, _ *importRequest) error {
				if call < stop {
					return nil
				}
				interrupt()
				if lost {
					return overTheWire(apierr.Unavailable(apierr.OutcomeUnknown, "the reply is lost"))
				}
				return nil
			}
			if rapid.Bool().Draw(t, "days later") {
				a.forget()
			}
			r, err := runImport(ctx, t, a, rows, Options{Resume: round > 0})
			interrupt()
			if err == nil {
				if r.Imported+r.There != len(rows)-bad || r.Refused != bad || a.count() != len(rows)-bad {
					t.Fatalf("%+v, %d tokens; want %d, and %d refused", r, a.count(), len(rows)-bad, bad)
				}
				return
			}
			if !errors.Is(err, ErrInterrupted) || round > 200 {
				t.Fatalf("round %d: %v", round, err)
			}
		}
	})
}

// TestB11_ManyApps: 100,000 tokens of 1,000 apps are one call for each app, a few apps at a time.
func TestB11_ManyApps(t *testing.T) {
	a := newAuthority()
	flying := &inFlight{authority: a}
	var rows []importfile.Row
	for i := range 100_000 {
		rows = append(rows, rowsOf(fmt.Sprint("app", i%1000), i)...)
	}
	r, err := Run(t.Context(), flying, rows, Options{})
	if err != nil || r.Imported != 100_000 || r.Apps != 1000 || a.calls != 1000 || a.count() != 100_000 {
		t.Errorf("%v, %+v, %d calls, %d tokens", err, r.Counts, a.calls, a.count())
	}
	if most := flying.most.Load(); most > parallel {
		t.Errorf("%d calls at the same time", most)
	}
}

// inFlight counts the calls that are made at the same time.
type inFlight struct {
	*authority
	now, most atomic.Int32
}

// ImportTokens implements Authority.
func (f *inFlight) ImportTokens(ctx context.Context, r *importRequest, o ...grpc.CallOption) (*importResponse, error) {
	now := f.now.Add(1)
	defer f.now.Add(-1)
	for most := f.most.Load(); now > most && !f.most.CompareAndSwap(most, now); most = f.most.Load() {
	}
	return f.authority.ImportTokens(ctx, r, o...)
}

// A dry run changes nothing, and finds what the lists show.
func TestB11_DryRun(t *testing.T) {
	a := newAuthority()
	mustRun(t, a, rowsOf("shop", 1), Options{})
	a.enforced["shop"] = true
	rows := rowsOf("shop", 1, 2, 3)
	rows[1].Import.Scopes = nil
	calls := a.calls
	wantCounts(t, mustRun(t, a, rows, Options{DryRun: true}), 1, 0, 2)
	wantCounts(t, mustRun(t, a, rows, Options{DryRun: true, Resume: true}), 1, 1, 1)
	if a.calls != calls || a.count() != 1 {
		t.Error("the dry run changed something")
	}
}

// Progress only grows, and ends with everything.
func TestProgress(t *testing.T) {
	a := newAuthority()
	last := Counts{}
	r := mustRun(t, a, rowsOf("shop", upTo(100)...), Options{Progress: func(c Counts) {
		if c.Imported < last.Imported || c.NotTried() < 0 {
			t.Errorf("%+v after %+v", c, last)
		}
		last = c
	}})
	if last != r.Counts {
		t.Errorf("%+v, want %+v", last, r.Counts)
	}
}
