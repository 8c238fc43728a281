// Package show writes the output of commands: tables for people, JSON for programs. This package is not part
// of the public API and may change in any release.
package show

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// marshal writes fields with default values too, so that a program finds false and 0. The names follow the
// proto3 JSON mapping.
var marshal = protojson.MarshalOptions{EmitDefaultValues: true}

// JSON returns a message as JSON, in the form of Message but without its white space.
func JSON(m proto.Message) ([]byte, error) { return marshal.Marshal(m) }

// Message writes a message as one JSON document. Its white space is our own, because protojson varies white
// space on purpose.
func Message(w io.Writer, m proto.Message) error {
	data, err := marshal.Marshal(m)
	if err != nil {
		return err
	}
	return document(w, data)
}

// OpenMessage writes a message without the end of its document; CloseMessage writes the end. So people see
// the message before the last field is known.
func OpenMessage(w io.Writer, m proto.Message) error {
	data, err := marshal.Marshal(m)
	if err != nil {
		return err
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, data, "", "  "); err != nil {
		return err
	}
	_, err = w.Write(bytes.TrimSuffix(indented.Bytes(), []byte("\n}")))
	return err
}

// CloseMessage ends the document of an OpenMessage that had at least one field. It adds one more field if
// value is valid.
func CloseMessage(w io.Writer, name string, value proto.Message) error {
	end := "\n}\n"
	if value.ProtoReflect().IsValid() {
		data, err := marshal.Marshal(value)
		if err != nil {
			return err
		}
		var indented bytes.Buffer
		if err := json.Indent(&indented, data, "  ", "  "); err != nil {
			return err
		}
		end = fmt.Sprintf(",\n  %q: %s%s", name, indented.Bytes(), end)
	}
	_, err := io.WriteString(w, end)
	return err
}

// Value writes a value that is no protobuf message as one JSON document.
func Value(w io.Writer, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return document(w, data)
}

func document(w io.Writer, data []byte) error {
	var indented bytes.Buffer
	if err := json.Indent(&indented, data, "", "  "); err != nil {
		return err
	}
	indented.WriteByte('\n')
	_, err := w.Write(indented.Bytes())
	return err
}

// Row is one line of Details.
type Row struct{ Name, Value string }

// Details writes rows, one on each line. It leaves out rows without a value.
func Details(w io.Writer, rows ...Row) error {
	table := newTable(w)
	for _, row := range rows {
		if row.Value != "" {
			fmt.Fprintf(table, "%s\t%s\n", row.Name, row.Value)
		}
	}
	return table.Flush()
}

// List writes rows of cells under a heading, page by page. Columns are aligned within a page.
type List struct {
	w       io.Writer
	heading []string
	begun   bool
}

// NewList returns a list. The heading is written with the first page that has rows.
func NewList(w io.Writer, heading ...string) *List { return &List{w: w, heading: heading} }

// Page writes some rows.
func (l *List) Page(rows [][]string) error {
	if len(rows) == 0 {
		return nil
	}
	table := newTable(l.w)
	if !l.begun {
		fmt.Fprintln(table, strings.Join(l.heading, "\t"))
	}
	l.begun = true
	for _, row := range rows {
		fmt.Fprintln(table, strings.Join(row, "\t"))
	}
	return table.Flush()
}

// Empty reports whether nothing was written.
func (l *List) Empty() bool { return !l.begun }

func newTable(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) }
