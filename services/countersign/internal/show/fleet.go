package show

import (
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/countersign/countersign/pkg/clockskew"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/words"
)

// Receipt writes a row for each validator: its state, its revision, and the time from the commit to the
// report that shows the change.
func Receipt(w io.Writer, r *countersignv1.Receipt) error {
	var rows [][]string
	for _, e := range r.GetValidators() {
		after := "-"
		if e.GetState() == applied && r.GetCommitTime() != nil {
			after = fmt.Sprintf("%d ms", max(e.GetReportTime().AsTime().Sub(r.GetCommitTime().AsTime()), 0).Milliseconds())
		}
		rows = append(rows, []string{
			words.Printable(e.GetValidatorId()), words.Enum(e.GetState()), fmt.Sprint(e.GetRevision()),
			after,
		})
	}
	return NewList(w, "VALIDATOR", "STATE", "REVISION", "AFTER").Page(rows)
}

const (
	applied = countersignv1.PropagationState_PROPAGATION_STATE_APPLIED
	skewed  = countersignv1.PropagationState_PROPAGATION_STATE_CLOCK_SKEWED
)

// Laggards names the validators that keep a receipt from being complete.
func Laggards(r *countersignv1.Receipt) string {
	var names []string
	for _, e := range r.GetValidators() {
		if state := e.GetState(); state != applied && state != countersignv1.PropagationState_PROPAGATION_STATE_FENCED {
			name := fmt.Sprintf("%s is %s", words.Printable(e.GetValidatorId()), words.Enum(state))
			switch {
			case e.GetUnreadable():
				name += " (its record in the store does not verify; 'countersign fleet forget' removes it)"
			case state == skewed:
				name += fmt.Sprintf(" (it has the change, but its clock is %s the authority's, and it applies a time in the change "+
					"by its own clock: set that clock)", clock(e.GetClockSkew()))
			}
			names = append(names, name)
		}
	}
	switch {
	case len(names) > 0:
		return strings.Join(names, ", ")
	case len(r.GetValidators()) == 0:
		return "no validator reports to the authority"
	}
	return "the authority does not know whether there are other validators"
}

// OnlyLost reports whether only LOST validators keep a receipt from being complete.
func OnlyLost(r *countersignv1.Receipt) bool {
	lost := 0
	for _, e := range r.GetValidators() {
		switch e.GetState() {
		case applied, countersignv1.PropagationState_PROPAGATION_STATE_FENCED:
		case countersignv1.PropagationState_PROPAGATION_STATE_LOST:
			lost++
		default:
			return false
		}
	}
	return lost > 0 && !r.GetComplete()
}

// ValidatorHeading is the heading over ValidatorCells.
var ValidatorHeading = []string{"VALIDATOR", "STATE", "REPORTED", "DATA AGE", "BEHIND", "ORPHANS", "FENCED AFTER", "CLOCK"}

// ValidatorCells returns a validator's row in a list.
func ValidatorCells(v *countersignv1.Validator) []string {
	age := v.GetDataAge().AsDuration().Round(time.Millisecond).String()
	if v.GetStale() {
		age += " (stale)"
	}
	fenced := "never"
	if v.GetFencedAfter() != nil {
		fenced = v.GetFencedAfter().AsDuration().String()
	}
	state := words.Enum(v.GetState())
	if v.GetUnreadable() {
		return []string{words.Printable(v.GetValidatorId()), state + " (unreadable record)", "-", "-", "-", "-", "-", "-"}
	}
	if v.GetIdContested() {
		state += " (another one has this id)"
	}
	return []string{
		words.Printable(v.GetValidatorId()), state,
		v.GetReportAge().AsDuration().Round(time.Millisecond).String() + " ago",
		age, fmt.Sprint(v.GetBehind()), fmt.Sprint(v.GetOrphanCount()), fenced, clockCell(v.GetClockSkew()),
	}
}

// clockCell returns "ok" or how far a validator's clock is off; a dash when it is unknown.
func clockCell(ahead *durationpb.Duration) string {
	switch {
	case ahead == nil:
		return "-"
	case ahead.AsDuration().Abs() <= clockskew.Max:
		return "ok"
	}
	return clockskew.Words(ahead.AsDuration())
}

// clock compares a validator's clock with the authority's, as in "5m0s ahead of".
func clock(ahead *durationpb.Duration) string {
	if ahead.AsDuration() > 0 {
		return clockskew.Words(ahead.AsDuration()) + " of"
	}
	return clockskew.Words(ahead.AsDuration())
}
