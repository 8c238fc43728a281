package importfile

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// knownColumns are the columns of a CSV file, and the fields of a JSON object.
var knownColumns = []string{"app_id", "name", "scopes", "secret", "sha256"}

const wantColumns = "want app_id, name, scopes, and secret or sha256"

// parseHeader finds out the separator of a CSV file and its columns. The errors do not repeat the header: it
// may be a row, when the file has no header.
func parseHeader(line string, hasApp bool) (columns []string, separator byte, err error) {
	separator = separatorOf(line)
	cells, err := split(line, separator)
	if err != nil {
		return nil, 0, err
	}
	for i, cell := range cells {
		name := strings.ToLower(strings.TrimSpace(cell))
		switch {
		case name == "" && i == len(cells)-1:
			continue // a separator at the end
		case !slices.Contains(knownColumns, name):
			return nil, 0, wrong(columnName(i), "is unknown; the first line must name the columns: "+wantColumns)
		case slices.Contains(columns, name):
			return nil, 0, wrong(name, "the header has this column twice")
		}
		columns = append(columns, name)
	}
	has := func(name string) bool { return slices.Contains(columns, name) }
	switch {
	case !has("name"):
		return nil, 0, wrong("name", "the header lacks this column; "+wantColumns)
	case !has("secret") && !has("sha256"):
		return nil, 0, wrong("secret", "the header lacks this column; "+wantColumns)
	case !has("app_id") && !hasApp:
		return nil, 0, wrong("app_id", "the header lacks this column; add it, or give --app for all rows")
	}
	return columns, separator, nil
}

// columnName names a column by its number, for columns that have no name that may be shown.
func columnName(index int) string { return fmt.Sprintf("column %d", index+1) }

// separatorOf returns the most frequent separator in a header: a comma, a semicolon or a tab.
func separatorOf(header string) byte {
	best, count := byte(','), 0
	for _, candidate := range []byte{',', ';', '\t'} {
		if n := strings.Count(header, string(rune(candidate))); n > count {
			best, count = candidate, n
		}
	}
	return best
}

// split splits a line of a CSV file as RFC 4180 says, except that a quoted value must end on its line: no
// value of a token has a line break, and one missing quote must not swallow the rest of the file.
func split(line string, separator byte) ([]string, error) {
	var cells []string
	for {
		text, rest, err := nextCell(line, separator)
		if err != nil {
			return cells, err
		}
		cells = append(cells, text)
		if rest == "" {
			return cells, nil
		}
		if rest[0] != separator {
			return cells, errors.New("want a separator or the end of the line after a closing quote")
		}
		line = rest[1:]
	}
}

// nextCell returns the first value of a line, and the rest of the line from its separator on.
func nextCell(line string, separator byte) (text, rest string, err error) {
	if !strings.HasPrefix(line, `"`) {
		end := strings.IndexByte(line, separator)
		if end < 0 {
			end = len(line)
		}
		if strings.Contains(line[:end], `"`) {
			return "", "", errors.New(`a quote inside of a value: put the whole value into quotes, and write the quote twice`)
		}
		return line[:end], line[end:], nil
	}
	var value strings.Builder
	for line = line[1:]; ; {
		before, after, closed := strings.Cut(line, `"`)
		value.WriteString(before)
		switch {
		case !closed:
			return "", "", errors.New("a quoted value does not end on its line")
		case !strings.HasPrefix(after, `"`):
			return value.String(), after, nil
		}
		value.WriteByte('"')
		line = after[1:]
	}
}

// parseCSV reads a line of a CSV file.
func parseCSV(line string, columns []string, separator byte) (fields, error) {
	var f fields
	if !utf8.ValidString(line) {
		return f, errUTF8
	}
	cells, err := split(line, separator)
	switch {
	case err != nil && len(cells) < len(columns):
		return f, wrong(columns[len(cells)], "%s", err)
	case err != nil:
		return f, err
	case len(cells) < len(columns):
		return f, wrong(columns[len(cells)], "the line ends before this column")
	}
	for i, extra := range cells[len(columns):] {
		if strings.TrimSpace(extra) != "" {
			return f, wrong(columnName(len(columns)+i), "the header has no such column")
		}
	}
	for i, column := range columns {
		f.set(column, cells[i])
	}
	return f, nil
}

// set takes the value of a column. An empty value is none.
func (f *fields) set(column, text string) {
	switch column {
	case "app_id":
		f.appID = strings.TrimSpace(text)
	case "name":
		f.name = text
	case "scopes":
		f.scopes = strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \t,;|", r) })
	case "secret":
		if text != "" {
			f.secret = &text
		}
	case "sha256":
		if text = strings.TrimSpace(text); text != "" {
			f.sha256 = &text
		}
	}
}
