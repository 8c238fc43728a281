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
	"github.com/countersign/countersign/services/internal/cmdline"
)

// maxInput bounds the bytes that are read as one secret. It is far above secret.MaxLength, so that usually
// the server rejects a long secret.
const maxInput = 64 << 10

// open opens a file for reading; "-" is the standard input. A terminal does not show the input.
func open(cmd *cobra.Command, path string) (io.ReadCloser, error) {
	if path != "-" {
		return os.Open(path)
	}
	if descriptor, is := terminal(cmd.InOrStdin()); is {
		return &hidden{cmd: cmd, descriptor: descriptor, prompt: "Lines (not shown; end with Ctrl-D): "}, nil
	}
	return io.NopCloser(cmd.InOrStdin()), nil
}

// readSecret reads a secret from a file or the standard input ("-"), without one line break at its end.
func readSecret(cmd *cobra.Command, path string) (secret.Secret, error) {
	data, err := readInput(cmd, path)
	if err != nil {
		return secret.Secret{}, fmt.Errorf("--secret-file: %w", err)
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	switch {
	case text == "":
		return secret.Secret{}, errors.New("--secret-file: want a secret; the file is empty")
	case len(data) > maxInput || !utf8.ValidString(text):
		return secret.Secret{}, errors.New("--secret-file: not a secret: longer than 64 KiB, or not UTF-8 text")
	}
	return secret.New(text), nil
}

// readInput reads a file. From a terminal it asks for one line.
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

// secretFile is a new file for a secret. It is created before the secret is minted, so that no secret is lost
// because its file cannot be created.
type secretFile struct{ file *os.File }

// newSecretFile creates a file that only its owner can read. Without a path there is no file, and the methods
// do nothing.
func newSecretFile(path string) (*secretFile, error) {
	if path == "" {
		return &secretFile{}, nil
	}
	if path == "-" {
		return nil, cmdline.Misuse("--secret-file: want a file; without the flag the secret is printed")
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("--secret-file: %w", err)
	}
	return &secretFile{file}, nil
}

// take moves the secret from a response into the file.
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

// discard removes the file if no secret was written to it.
func (f *secretFile) discard() {
	if f.file != nil {
		_ = f.file.Close()
		_ = os.Remove(f.file.Name())
		f.file = nil
	}
}

// checkTokenID rejects a secret in place of an id. Other users can see the command line, so the secret counts
// as leaked.
func checkTokenID(id string) error {
	if strings.HasPrefix(id, secret.Prefix) {
		return cmdline.Misuse("--token: want the token's id (tok_...), not its secret; " +
			"others can read a secret in a command line, so rotate it")
	}
	return nil
}
