package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/words"
)

// maxLine bounds a line of an import file, in bytes: a secret of 4 KiB in escapes, a name, and some space.
const maxLine = 256 << 10

// maxImports is the number of tokens that one call may import (B11).
const maxImports = 1000

var errDigest = errors.New("want 64 hexadecimal digits")

// importLine is one line of an import file.
type importLine struct {
	Name   string
	Scopes []string
	Secret *string
	SHA256 *string
}

// readImports reads an import file. It also returns the line number of each object. Its errors name the line
// and never contain its text.
func readImports(cmd *cobra.Command, path string) (imports []*countersignv1.TokenImport, at []int, err error) {
	file, err := open(cmd, path)
	if err != nil {
		return nil, nil, fmt.Errorf("--file: %w", err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, maxLine)
	number := 1
	for ; lines.Scan(); number++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		if len(imports) == maxImports {
			return nil, nil, fmt.Errorf("--file: line %d: want at most %d tokens at once; split the file", number, maxImports)
		}
		item, err := parseImport(line)
		if err != nil {
			return nil, nil, fmt.Errorf("--file: line %d: %w", number, err)
		}
		imports, at = append(imports, item), append(at, number)
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, nil, fmt.Errorf("--file: line %d: longer than %d KiB", number, maxLine>>10)
	case err != nil:
		return nil, nil, fmt.Errorf("--file: %w", err)
	}
	if len(imports) == 0 {
		return nil, nil, errors.New("--file: the file has no tokens")
	}
	return imports, at, nil
}

func parseImport(data []byte) (*countersignv1.TokenImport, error) {
	line, err := decodeImport(data)
	if err != nil {
		return nil, err
	}
	item := &countersignv1.TokenImport{Name: line.Name}
	for _, name := range line.Scopes {
		var scope words.Scope
		if err := scope.Set(name); err != nil {
			return nil, fmt.Errorf("scopes: %w", err)
		}
		item.Scopes = append(item.Scopes, countersignv1.Scope(scope))
	}
	if line.Secret != nil {
		item.Credential = &countersignv1.TokenImport_Secret{Secret: *line.Secret}
		return item, nil
	}
	digest, err := parseDigest(*line.SHA256)
	if err != nil {
		return nil, fmt.Errorf("sha256: %w", err)
	}
	item.Credential = digest
	return item, nil
}
