package management

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/services/authority/internal/rules"
)

// TestRefusals: every kind of refusal has its gRPC code, and its reason, field or subject in the details.
func TestRefusals(t *testing.T) {
	want := map[rules.Kind]codes.Code{
		rules.Invalid: codes.InvalidArgument, rules.Unmet: codes.FailedPrecondition, rules.Missing: codes.NotFound,
		rules.Taken: codes.AlreadyExists, rules.Full: codes.ResourceExhausted,
	}
	if declared := declaredKinds(t); len(want) != declared {
		t.Errorf("rules declares %d kinds, the table has %d", declared, len(want))
	}
	for kind, code := range want {
		err := refused(fmt.Errorf("wrapped: %w", &rules.Error{Kind: kind, Reason: "SOME_REASON", Subject: "some.subject"}))
		if got := status.Code(err); got != code {
			t.Errorf("kind %d has code %v, want %v", kind, got, code)
		}
		reason, subject := "SOME_REASON", ""
		switch kind {
		case rules.Invalid:
			reason, subject = "INVALID_FIELD", "some.subject"
		case rules.Unmet:
			subject = "some.subject"
		}
		if got := apierr.ReasonOf(err); got != reason {
			t.Errorf("kind %d has reason %q, want %q", kind, got, reason)
		}
		if got := subjectOf(err); got != subject {
			t.Errorf("kind %d names %q, want %q", kind, got, subject)
		}
	}
	other := errors.New("another error")
	if got := refused(other); !errors.Is(got, other) {
		t.Errorf("an error that is no refusal became %v", got)
	}
}

// subjectOf returns the field or the subject that the details of a status name.
func subjectOf(err error) string {
	for _, detail := range status.Convert(err).Details() {
		switch d := detail.(type) {
		case *errdetails.BadRequest:
			return d.GetFieldViolations()[0].GetField()
		case *errdetails.PreconditionFailure:
			return d.GetViolations()[0].GetSubject()
		}
	}
	return ""
}

// declaredKinds counts the constants in the source of package rules, so that a new kind cannot be forgotten.
func declaredKinds(t *testing.T) (count int) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../rules/refusal.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, declaration := range file.Decls {
		d, ok := declaration.(*ast.GenDecl)
		if !ok || d.Tok != token.CONST {
			continue
		}
		if first, ok := d.Specs[0].(*ast.ValueSpec); ok && fmt.Sprint(first.Type) == "Kind" {
			count += len(d.Specs)
		}
	}
	return count
}
