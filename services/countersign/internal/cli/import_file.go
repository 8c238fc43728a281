package cli

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/importer"
	"github.com/countersign/countersign/services/countersign/internal/importfile"
	"github.com/countersign/countersign/services/countersign/internal/show"
	"github.com/countersign/countersign/services/countersign/internal/words"
	"github.com/countersign/countersign/services/internal/cmdline"
)

// fileImport is an import from a file.
type fileImport struct {
	path, report string
	options      importer.Options
}

func (f *fileImport) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&f.options.DryRun, "dry-run", false, "change nothing; say what would be imported and refused")
	flags.BoolVar(&f.options.Resume, "resume", false,
		"go on after an interrupted import: tokens that are there already are counted and not refused")
	flags.StringVar(&f.report, "report-file", "",
		"write the refused lines and the reasons to this `file` (default the name of --file with .refused.csv)")
}

// given reports whether one of the flags was given.
func (f *fileImport) given() bool { return f.options.DryRun || f.options.Resume || f.report != "" }

// run reads the file, imports its tokens and shows the outcome. Refused lines make the command fail, after
// the others are imported.
func (f *fileImport) run(cmd *cobra.Command, g *globals, appID string, change *change) error {
	from, err := open(cmd, f.path)
	if err != nil {
		return fmt.Errorf("--file: %w", err)
	}
	file, err := importfile.Read(from, appID)
	if err := errors.Join(err, from.Close()); err != nil {
		return fmt.Errorf("--file: %w", err)
	}
	return g.callAuthority(cmd, *g.timeout+*change.wait, func(ctx context.Context, connection grpc.ClientConnInterface) error {
		authority := countersignv1.NewAuthorityServiceClient(connection)
		done := f.showProgress(cmd, len(file.Refused))
		result, err := importer.Run(ctx, authority, file.Rows, f.options)
		done()
		outcome := f.outcome(file, result)
		reported := f.writeReport(cmd, outcome)
		warnOfFailover(cmd, result.Durability)
		receipt, waited := change.waitForAll(ctx, authority, result.ConsistencyTokens)
		if err := outcome.show(cmd, g, receipt); err != nil {
			return err
		}
		if err := errors.Join(f.failure(outcome, result, err), reported); err != nil {
			return err
		}
		return change.confirmed(cmd, receipt, waited)
	})
}

// showProgress draws a progress bar on a terminal until done is called. Some lines of the file may be refused
// from the start.
func (f *fileImport) showProgress(cmd *cobra.Command, refused int) (done func()) {
	if _, is := terminal(cmd.ErrOrStderr()); !is {
		return func() {}
	}
	bar := show.NewProgress(cmd.ErrOrStderr(), styleOf(cmd.ErrOrStderr()))
	f.options.Progress = func(c importer.Counts) { bar.Set(c.Total+refused, c.Imported+c.There, c.Refused+refused) }
	return bar.Done
}

// importOutcome is what became of the lines of a file.
type importOutcome struct {
	DryRun   bool            `json:"dryRun"`
	Imported int             `json:"imported"`
	Apps     int             `json:"apps"`
	There    int             `json:"alreadyThere"`
	Refused  int             `json:"refused"`
	NotTried int             `json:"notTried"`
	Report   string          `json:"reportFile"`
	Receipt  json.RawMessage `json:"receipt,omitempty"`

	refusals []importfile.Refusal
}

func (f *fileImport) outcome(file *importfile.File, result *importer.Result) *importOutcome {
	o := &importOutcome{
		DryRun: f.options.DryRun, Imported: result.Imported, Apps: result.Apps, There: result.There,
		NotTried: result.NotTried(), refusals: importfile.InOrder(file.Refused, result.Refusals),
	}
	o.Refused = len(o.refusals)
	return o
}

// writeReport writes the refusals to the report file, and the first of them to the standard error. A report
// never holds text of the file, which may be a secret in the wrong place.
func (f *fileImport) writeReport(cmd *cobra.Command, o *importOutcome) error {
	if o.Refused == 0 {
		return nil
	}
	o.Report = f.report
	switch {
	case o.Report != "":
	case f.path == "-":
		o.Report = "import.refused.csv"
	default:
		o.Report = f.path + ".refused.csv"
	}
	const shown = 10
	for _, refusal := range o.refusals[:min(shown, o.Refused)] {
		fmt.Fprintln(cmd.ErrOrStderr(), "Refused:", words.Printable(refusal.String()))
	}
	if o.Refused > shown {
		fmt.Fprintf(cmd.ErrOrStderr(), "Refused: %s more lines, see %s\n", words.Count(uint64(o.Refused-shown)), o.Report)
	}
	return cmdline.WriteFile("--report-file", o.Report, func(w io.Writer) error {
		table := csv.NewWriter(w)
		rows := [][]string{{"line", "field", "reason"}}
		for _, refusal := range o.refusals {
			rows = append(rows, []string{strconv.Itoa(refusal.Line), refusal.Field, words.Printable(refusal.Reason)})
		}
		return table.WriteAll(rows)
	})
}

// show writes the outcome and the receipt.
func (o *importOutcome) show(cmd *cobra.Command, g *globals, receipt *countersignv1.Receipt) error {
	if receipt != nil && g.output == cmdline.JSON {
		data, err := show.JSON(receipt)
		if err != nil {
			return err
		}
		o.Receipt = data
	}
	return g.answerValue(cmd, o, func(w io.Writer) error {
		imported := words.Plural(o.Imported, "token")
		rows := []show.Row{{Name: "Imported", Value: imported + " of " + words.Plural(o.Apps, "app")}}
		if o.DryRun {
			rows = []show.Row{{Name: "Would be imported", Value: imported}}
		}
		for _, row := range []struct {
			name  string
			count int
			more  string
		}{{"There already", o.There, ""}, {"Refused", o.Refused, " (" + o.Report + ")"}, {"Not tried", o.NotTried, ""}} {
			if row.count > 0 {
				rows = append(rows, show.Row{Name: row.name, Value: words.Count(uint64(row.count)) + row.more})
			}
		}
		if err := show.Details(w, rows...); err != nil || receipt == nil {
			return err
		}
		fmt.Fprintln(w)
		return show.Receipt(w, receipt)
	})
}

// failure returns the error with which the command ends: why it stopped early, or that lines were refused.
func (f *fileImport) failure(o *importOutcome, result *importer.Result, err error) error {
	const goOn = "The same command with --resume goes on."
	done := result.Total - result.NotTried()
	switch {
	case errors.Is(err, importer.ErrInterrupted):
		return &adviceError{fmt.Errorf("interrupted after %s of %s", words.Count(uint64(done)),
			words.Plural(result.Total, "token")), goOn}
	case err != nil && !f.options.DryRun:
		return &adviceError{err, fmt.Sprintf("It stopped after %s of %s. %s", words.Count(uint64(done)),
			words.Plural(result.Total, "token"), goOn)}
	case err != nil:
		return err
	case o.Refused > 0:
		return fmt.Errorf("%s refused; %s says why", words.Plural(o.Refused, "line"), o.Report)
	}
	return nil
}

// waitForAll waits until every validator has the last changes of some apps. It returns the receipt of the
// last change, or of the first one that is not complete. Without --wait, and without changes, it returns nil.
func (c *change) waitForAll(ctx context.Context, authority countersignv1.AuthorityServiceClient, positions []string,
) (receipt *countersignv1.Receipt, err error) {
	if *c.wait == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, *c.wait)
	defer cancel()
	for _, position := range positions {
		response, err := authority.WaitForPropagation(ctx, &countersignv1.WaitForPropagationRequest{ConsistencyToken: position})
		if err != nil {
			return receipt, err
		}
		if receipt = response.GetReceipt(); !receipt.GetComplete() {
			break
		}
	}
	return receipt, nil
}

// confirmed returns errIncomplete, and says why, unless every validator has the changes.
func (c *change) confirmed(cmd *cobra.Command, receipt *countersignv1.Receipt, err error) error {
	switch {
	case err != nil:
		return incomplete(cmd, "the tokens are imported, but some validators may not have them: "+explain(err, cmd))
	case receipt != nil && !receipt.GetComplete():
		return incomplete(cmd, "the tokens are imported, but some validators may not have them: "+show.Laggards(receipt))
	}
	return nil
}
