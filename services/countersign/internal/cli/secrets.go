package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/pkg/secret"
)

// maxInput is the most bytes that are read as one secret. It is far past secret.MaxLength, so that the
// server is the one to say what is too long.
const maxInput = 64 << 10

// open opens a file to read; "-" is the standard input, which a terminal does not show.
func open(cmd *cobra.Command, path string) (io.ReadCloser, error) {
	if path != "-" {
		return os.Open(path)
	}
	if descriptor, is := terminal(cmd.InOrStdin()); is {
		return &hidden{cmd: cmd, descriptor: descriptor, prompt: "Lines (not shown; then Ctrl-D): "}, nil
	}
	return io.NopCloser(cmd.InOrStdin()), nil
}

// readSecret reads a secret from a file, or from the standard input ("-"): all of it but one line break at
// the end.
func readSecret(cmd *cobra.Command, path string) (secret.Secret, error) {
	data, err := readInput(cmd, path)
	if err != nil {
		return secret.Secret{}, fmt.Errorf("--secret-file: %w", err)
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	switch {
	case text == "":
		return secret.Secret{}, errors.New("--secret-file: there is no secret, it is empty")
	case len(data) > maxInput || !utf8.ValidString(text):
		return secret.Secret{}, errors.New("--secret-file: that is no secret, it is too long or not text")
	}
	return secret.New(text), nil
}

// readInput reads a file; of a terminal one line, for which it asks.
func readInput(cmd *cobra.Command, path string) ([]byte, error) {
	if descriptor, is := terminal(cmd.InOrStdin()); is && path == "-" {
		asking := &hidden{cmd: cmd, descriptor: descriptor, prompt: "Secret (not shown): "}
		text, err := asking.secret()
		return []byte(text), errors.Join(err, asking.Close())
	}
	file, err := open(cmd, path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, maxInput+1))
}

// secretFile is a new file for a secret. It is made before the secret is, so that there is none that has
// nowhere to go.
type secretFile struct{ file *os.File }

// newSecretFile makes a file that only its owner can read; without a path there is none, and its methods do
// nothing.
func newSecretFile(path string) (*secretFile, error) {
	if path == "" {
		return &secretFile{}, nil
	}
	if path == "-" {
		return nil, misuse("--secret-file: want a file; without the flag the secret is printed")
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("--secret-file: %w", err)
	}
	return &secretFile{file}, nil
}

// take moves a secret from an answer into the file.
func (f *secretFile) take(from *string) error {
	if f.file == nil || *from == "" {
		return nil
	}
	_, err := f.file.WriteString(*from + "\n")
	if err := errors.Join(err, f.file.Sync(), f.file.Close()); err != nil {
		return fmt.Errorf("--secret-file: %w", err)
	}
	*from, f.file = "", nil
	return nil
}

// discard removes the file if no secret came into it.
func (f *secretFile) discard() {
	if f.file != nil {
		_ = f.file.Close()
		_ = os.Remove(f.file.Name())
		f.file = nil
	}
}

// tokenID refuses what is rather a secret. It was in the command line then, and should count as leaked.
func checkTokenID(id string) error {
	if strings.HasPrefix(id, secret.Prefix) {
		return misuse("--token: want the token's id (tok_...), not its secret; a secret in a command line can be read by others, so rotate it")
	}
	return nil
}
