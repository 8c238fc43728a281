package importfile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

var errTooLong = fmt.Errorf("longer than %d KiB", maxLine>>10)

// byteOrderMark is U+FEFF in UTF-8, which some programs put before the text.
var byteOrderMark = []byte("\xef\xbb\xbf")

// magics are the first bytes of files that are often taken for text, and what to do with such a file.
var magics = []struct{ bytes, advice string }{
	{"\xff\xfe", "the file is UTF-16; save it as UTF-8"},
	{"\xfe\xff", "the file is UTF-16; save it as UTF-8"},
	{"PK\x03\x04", "the file is a ZIP archive or a workbook; save the table as CSV in UTF-8"},
	{"\x1f\x8b", "the file is compressed; decompress it first"},
}

// lines reads a text line by line. A line that is too long is not kept, and does not end the text.
type lines struct {
	from *bufio.Reader
	// number is the number of the present line, from 1.
	number int
	// text is the present line without its end. It is valid until the next line is read.
	text []byte
	// tooLong says that text is only the beginning of the line.
	tooLong bool
}

// newLines returns an error when the first bytes show that the input is no text in UTF-8.
func newLines(from io.Reader) (*lines, error) {
	l := &lines{from: bufio.NewReaderSize(from, maxLine+len("\r\n"))}
	start, err := l.from.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	for _, magic := range magics {
		if bytes.HasPrefix(start, []byte(magic.bytes)) {
			return nil, errors.New("line 1: " + magic.advice)
		}
	}
	if bytes.HasPrefix(start, byteOrderMark) {
		_, err = l.from.Discard(len(byteOrderMark))
		return l, err
	}
	return l, nil
}

// next reads the next line. After the last line it returns io.EOF.
func (l *lines) next() error {
	text, err := l.from.ReadSlice('\n')
	l.tooLong = errors.Is(err, bufio.ErrBufferFull)
	if len(text) == 0 && err != nil {
		return err
	}
	l.number++
	l.text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	if l.tooLong {
		l.text = bytes.Clone(l.text[:1024]) // enough to tell the form of the file
	}
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = l.from.ReadSlice('\n')
	}
	if errors.Is(err, io.EOF) {
		return nil // the last line has no end; the next call returns io.EOF
	}
	return err
}

// blank reports whether the present line has only white space.
func (l *lines) blank() bool { return !l.tooLong && len(bytes.TrimSpace(l.text)) == 0 }
