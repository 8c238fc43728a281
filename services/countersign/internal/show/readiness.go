package show

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/words"
)

const (
	ready      = countersignv1.ReadinessVerdict_READINESS_VERDICT_READY
	notReady   = countersignv1.ReadinessVerdict_READINESS_VERDICT_NOT_READY
	noTraffic  = countersignv1.ReadinessVerdict_READINESS_VERDICT_NO_TRAFFIC
	incomplete = countersignv1.ReadinessVerdict_READINESS_VERDICT_INCOMPLETE
)

// meaning says in words what a verdict means for an app of which some requests were seen.
func meaning(verdict countersignv1.ReadinessVerdict, requests uint64) string {
	switch verdict {
	case ready:
		return "enforcement would reject nothing that you want accepted"
	case notReady:
		return "enforcement would reject requests; the blockers say what to do first"
	case noTraffic:
		if requests > 0 {
			return "a scope saw no requests that can carry a token; the warnings name it"
		}
		return "no requests were seen, so nothing is known"
	case incomplete:
		return "requests are missing from the counts"
	}
	return "" // of a newer authority
}

var hues = map[countersignv1.ReadinessVerdict]string{ready: green, notReady: red, noTraffic: amber, incomplete: amber}

// Readiness writes the report on one app: what enforcement would reject, and why. Brief leaves the tokens
// out.
func Readiness(w io.Writer, r *countersignv1.Readiness, style Style, now time.Time, brief bool) error {
	requests, rejected := Totals(r)
	verdict := style.paint(hues[r.GetVerdict()], words.Enum(r.GetVerdict()))
	if text := meaning(r.GetVerdict(), requests); text != "" {
		verdict += ": " + text
	}
	window := r.GetEndTime().AsTime().Sub(r.GetStartTime().AsTime())
	err := Details(w, Row{"App", r.GetAppId()}, Row{"Verdict", verdict},
		Row{"Window", fmt.Sprintf("%s, from %s to %s", words.Span(window), minute(r.GetStartTime().AsTime()),
			minute(r.GetEndTime().AsTime()))},
		Row{"Requests", fmt.Sprintf("%s, of which %s (%s) would be rejected", words.Count(requests), words.Count(rejected),
			words.Share(rejected, requests))})
	if err != nil {
		return err
	}
	if err := errors.Join(scopeBars(w, r, style), reasons(w, r)); err != nil {
		return err
	}
	if !brief {
		if err := usedTokens(w, r, now); err != nil {
			return err
		}
	}
	return sentences(w, r, style)
}

// section writes a list below an empty line; nothing when there are no rows.
func section(w io.Writer, rows [][]string, heading ...string) error {
	if len(rows) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return NewList(w, heading...).Page(rows)
}

// minute formats a time to the minute.
func minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04Z") }

// Totals returns the number of requests in a report, and how many of them enforcement would reject.
func Totals(r *countersignv1.Readiness) (requests, rejected uint64) {
	for _, s := range r.GetScopes() {
		requests, rejected = requests+s.GetRequests(), rejected+s.GetRejected()
	}
	return requests, rejected
}

// scopeBars writes a row and a bar for each scope.
func scopeBars(w io.Writer, r *countersignv1.Readiness, style Style) error {
	rows := [][]string{{"SCOPE", "ENFORCED", "ACCEPTED", "REJECTED", ""}}
	for _, s := range r.GetScopes() {
		enforced := "no"
		if s.GetEnforced() {
			enforced = "yes"
		}
		rejected := words.Count(s.GetRejected())
		if s.GetRejected() > 0 {
			rejected += " (" + words.Share(s.GetRejected(), s.GetRequests()) + ")"
		}
		rows = append(rows, []string{
			words.ListScopes([]countersignv1.Scope{s.GetScope()}), enforced,
			words.Count(s.GetRequests() - min(s.GetRejected(), s.GetRequests())), rejected, "",
		})
	}
	columns := min(style.Width-widthOf(rows), 60)
	for i, s := range r.GetScopes() {
		if columns >= 10 {
			rows[i+1][4] = style.bar(columns, part{s.GetRequests() - min(s.GetRejected(), s.GetRequests()), "█", "#", green},
				part{s.GetRejected(), "▒", "x", red})
		}
	}
	return section(w, rows[1:], rows[0]...)
}

// widthOf returns the number of columns that a list of these rows takes, with the space after each column.
func widthOf(rows [][]string) (width int) {
	for column := range rows[0] {
		widest := 0
		for _, row := range rows {
			widest = max(widest, len(row[column]))
		}
		width += widest + 2
	}
	return width
}

// reasons writes a row for each kind of rejection.
func reasons(w io.Writer, r *countersignv1.Readiness) error {
	names := map[string]string{}
	for _, t := range r.GetTokens() {
		names[t.GetTokenId()] = words.Printable(t.GetName())
	}
	var rows [][]string
	for _, s := range r.GetScopes() {
		for _, c := range s.GetRejections() {
			token := "-"
			if c.GetTokenId() != "" {
				token = strings.TrimSpace(c.GetTokenId() + " " + names[c.GetTokenId()])
			}
			rows = append(rows, []string{
				words.Count(c.GetCount()), words.ListScopes([]countersignv1.Scope{s.GetScope()}), words.Enum(c.GetReason()), token,
			})
		}
	}
	return section(w, rows, "REJECTED", "SCOPE", "REASON", "TOKEN")
}

// usedTokens writes a row for each token.
func usedTokens(w io.Writer, r *countersignv1.Readiness, now time.Time) error {
	var rows [][]string
	for _, t := range r.GetTokens() {
		name := words.Printable(t.GetName())
		if t.GetUnscoped() {
			name += " (unscoped)"
		}
		rows = append(rows, []string{
			t.GetTokenId(), name, words.Enum(t.GetState()), words.Count(t.GetRequests()), words.Count(t.GetRejected()),
			words.Ago(LastUse(t.GetLastUses()), now),
		})
	}
	return section(w, rows, "TOKEN", "NAME", "STATE", "REQUESTS", "REJECTED", "LAST USE")
}

// sentences writes what stands in the way and what to know, as the authority says it.
func sentences(w io.Writer, r *countersignv1.Readiness, style Style) error {
	var notices []string
	for _, n := range r.GetNotices() {
		notices = append(notices, n.GetText())
	}
	for _, group := range []struct {
		title, hue string
		texts      []string
	}{
		{"Blockers", red, r.GetBlockers()},
		{"Missing", amber, r.GetMissing()},
		{"Warnings", amber, r.GetWarnings()},
		{"Notices", amber, notices},
	} {
		if len(group.texts) == 0 {
			continue
		}
		if _, err := fmt.Fprintf(w, "\n%s\n", style.paint(group.hue, group.title)); err != nil {
			return err
		}
		for _, text := range group.texts {
			if _, err := io.WriteString(w, style.wrap("  - ", "    ", words.Printable(text))); err != nil {
				return err
			}
		}
	}
	return nil
}

// ReadinessHeading is the heading over ReadinessCells.
var ReadinessHeading = []string{"APP", "VERDICT", "REQUESTS", "REJECTED", "SHARE", "BLOCKERS", "NOTICES"}

// ReadinessCells returns an app's row in the summary of all apps.
func ReadinessCells(r *countersignv1.Readiness) []string {
	requests, rejected := Totals(r)
	return []string{
		r.GetAppId(), words.Enum(r.GetVerdict()), words.Count(requests), words.Count(rejected), words.Share(rejected, requests),
		fmt.Sprint(len(r.GetBlockers())), fmt.Sprint(len(r.GetNotices())),
	}
}
