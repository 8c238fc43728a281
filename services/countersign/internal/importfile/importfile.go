// Package importfile reads files of tokens to import: CSV or JSON lines, with the tokens of one or of many
// apps (B11). It checks everything that can be checked without a server. This package is not part of the
// public API and may change in any release.
package importfile

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// maxLine bounds a line of a file, in bytes: a secret of 4 KiB in escapes, a name, and some space.
const maxLine = 64 << 10

// Row is one token of a file.
type Row struct {
	// Line is the number of its line, from 1.
	Line int
	// AppID is the app that gets the token.
	AppID string
	// Import is the token in the form of the contract. Its name is trimmed and normalised.
	Import *countersignv1.TokenImport
	digest secret.Digest
}

// Refusal is a line that cannot be imported, and why. It never holds text of the line, which may be a secret
// in the wrong place.
type Refusal struct {
	// Line is the number of the line, from 1.
	Line int
	// Field is the column or the field that is wrong. Empty when it is the line as a whole.
	Field string
	// Reason says what was expected.
	Reason string
}

// String returns the refusal as one sentence that names the line and the field.
func (r Refusal) String() string {
	if r.Field == "" {
		return fmt.Sprintf("line %d: %s", r.Line, r.Reason)
	}
	return fmt.Sprintf("line %d: %s: %s", r.Line, r.Field, r.Reason)
}

// InOrder returns refusals in the order of their lines.
func InOrder(lists ...[]Refusal) []Refusal {
	all := slices.Concat(lists...)
	slices.SortFunc(all, func(a, b Refusal) int { return cmp.Compare(a.Line, b.Line) })
	return all
}

// File is the content of a file: each line with content is in exactly one of the two lists, both in the order
// of the file.
type File struct {
	Rows    []Row
	Refused []Refusal
}

// Read reads a file and tells its form from its content. The tokens go to the app of their row; appID is the
// app of rows that name none, and may be empty. A bad line is a refusal and does not stop the others. An
// error means that the file as a whole cannot be read: it is no text, or its header is wrong. The error names
// the line and holds no text of the file.
func Read(from io.Reader, appID string) (*File, error) {
	lines, err := newLines(from)
	if err != nil {
		return nil, err
	}
	file := &collector{seenSecrets: map[appDigest]int{}, seenNames: map[appName]int{}, appID: appID}
	var parse parser
	for {
		switch err := lines.next(); {
		case errors.Is(err, io.EOF):
			if len(file.Rows)+len(file.Refused) == 0 {
				return nil, errors.New("the file has no tokens")
			}
			return &file.File, nil
		case err != nil:
			return nil, err
		case lines.blank():
			continue
		}
		if parse != nil {
			file.add(lines, parse)
			continue
		}
		var header bool
		if parse, header, err = parserFor(lines, appID != ""); err != nil {
			return nil, fmt.Errorf("line %d: %w", lines.number, err)
		}
		if !header {
			file.add(lines, parse)
		}
	}
}

// parser reads one line.
type parser func(line []byte) (fields, error)

// parserFor tells the form of a file from its first line that is not blank. It also reports whether this line
// is the header of a CSV file.
func parserFor(lines *lines, hasApp bool) (parse parser, header bool, err error) {
	line := bytes.TrimSpace(lines.text)
	switch {
	case len(line) == 0: // a long line that begins with a kilobyte of white space
		return nil, false, errTooLong
	case line[0] == '{':
		return parseJSON, false, nil
	case line[0] == '[':
		return nil, false, errors.New("want JSON lines, which is one object on each line, and not one array of objects")
	case lines.tooLong:
		return nil, false, errTooLong
	case bytes.IndexByte(line, 0) >= 0 || !utf8.Valid(line):
		return nil, false, errors.New("the file is not text in UTF-8; save it as CSV or JSON lines in UTF-8")
	}
	columns, separator, err := parseHeader(string(lines.text), hasApp)
	if err != nil {
		return nil, false, err
	}
	return func(line []byte) (fields, error) { return parseCSV(string(line), columns, separator) }, true, nil
}

type (
	appDigest struct {
		app    string
		digest secret.Digest
	}
	appName struct{ app, name string }
)

// collector collects the rows of a file.
type collector struct {
	File
	appID       string // of rows without one
	seenSecrets map[appDigest]int
	seenNames   map[appName]int
}

// add reads and checks a line.
func (c *collector) add(lines *lines, parse parser) {
	row, err := c.row(lines, parse)
	if err == nil {
		err = c.unique(row)
	}
	if err == nil {
		c.Rows = append(c.Rows, row)
		return
	}
	refusal := Refusal{Line: lines.number, Reason: err.Error()}
	if wrong := (*fieldError)(nil); errors.As(err, &wrong) {
		refusal.Field, refusal.Reason = wrong.field, wrong.reason
	}
	c.Refused = append(c.Refused, refusal)
}

func (c *collector) row(lines *lines, parse parser) (Row, error) {
	if lines.tooLong {
		return Row{}, errTooLong
	}
	found, err := parse(lines.text)
	if err != nil {
		return Row{}, err
	}
	row, err := found.check(c.appID)
	row.Line = lines.number
	return row, err
}

// unique rejects a secret and a name that an earlier row of the same app has.
func (c *collector) unique(row Row) error {
	digest, name := appDigest{row.AppID, row.digest}, appName{row.AppID, row.Import.GetName()}
	if line := c.seenSecrets[digest]; line != 0 {
		field := "secret"
		if row.Import.GetSha256() != nil {
			field = "sha256"
		}
		return wrong(field, "line %d has the same secret for the same app", line)
	}
	if line := c.seenNames[name]; line != 0 {
		return wrong("name", "line %d has the same name for the same app", line)
	}
	c.seenSecrets[digest], c.seenNames[name] = row.Line, row.Line
	return nil
}
