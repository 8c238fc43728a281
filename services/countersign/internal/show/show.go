// Package show writes answers: tables for people, JSON for programs.
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

// marshal writes every field that has a default, so that a program finds false and 0 where it looks for
// them. The names are those of the proto3 JSON mapping.
var marshal = protojson.MarshalOptions{EmitDefaultValues: true}

// Message writes a message as one JSON document. The white space is ours: protojson varies its own on
// purpose.
func Message(w io.Writer, m proto.Message) error {
	data, err := marshal.Marshal(m)
	if err != nil {
		return err
	}
	return document(w, data)
}

// OpenMessage writes a message without the end of its document, which CloseMessage writes. What is in it is
// seen, and can be kept, before the rest is known.
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

// CloseMessage ends the document of an OpenMessage that had at least one field, with one more field when
// its value is valid.
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

// Value writes what is no message as one JSON document.
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

// Row is one line of Details: a word and its value.
type Row struct{ Name, Value string }

// Details writes one thing, a line for each of its rows. Rows without a value are left out.
func Details(w io.Writer, rows ...Row) error {
	table := newTable(w)
	for _, row := range rows {
		if row.Value != "" {
			fmt.Fprintf(table, "%s\t%s\n", row.Name, row.Value)
		}
	}
	return table.Flush()
}

// List writes rows of cells under a heading, page by page: columns stand under each other within a page.
type List struct {
	w       io.Writer
	heading []string
	begun   bool
}

// NewList returns a list with the given heading, which is written with the first page that has rows.
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

// Empty tells whether nothing was written.
func (l *List) Empty() bool { return !l.begun }

func newTable(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) }
