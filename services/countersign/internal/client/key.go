package client

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/services/internal/adminkeys"
)

// KeyVariable is the environment variable that may hold an admin key itself. There is no such flag: a
// command line is kept in the shell's history, and others can see it while the command runs.
const KeyVariable = "COUNTERSIGN_ADMIN_KEY"

// Key is an admin key; the zero value is none.
type Key struct {
	secret secret.Secret
	// From says where the key was found, for people; empty when there is none.
	From string
}

// FindKey finds the admin key for an authority: in the given file if one was given, else in KeyVariable,
// else, for an authority on loopback, in the file that `countersign dev` writes. Finding none is not an
// error: the authority knows whether it wants one.
func FindKey(file string, authority Address) (Key, error) {
	if file != "" {
		return readKey(file, "--admin-key-file: ")
	}
	if text := os.Getenv(KeyVariable); text != "" {
		return parseKey(text, KeyVariable)
	}
	if !authority.Loopback() {
		return Key{}, nil
	}
	file, err := adminkeys.DefaultKeyFile()
	if err != nil {
		return Key{}, nil //nolint:nilerr // a user without a folder has no file in it
	}
	key, err := readKey(file, "")
	if errors.Is(err, fs.ErrNotExist) {
		return Key{}, nil
	}
	return key, err
}

func readKey(file, what string) (Key, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return Key{}, fmt.Errorf("%s%w", what, err)
	}
	return parseKey(string(data), file)
}

// parseKey refuses what is no admin key, since it would be sent: another file, named by mistake, may hold
// worse.
func parseKey(text, from string) (Key, error) {
	text = strings.TrimSpace(text)
	if !secret.WellFormedAdminKey(text) {
		return Key{}, fmt.Errorf("%s does not hold an admin key, which begins with %s", from, secret.AdminPrefix)
	}
	return Key{secret: secret.New(text), From: from}, nil
}
