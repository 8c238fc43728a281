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

// KeyVariable is the environment variable that may hold an admin key itself. There is no flag for it, because
// shells keep command lines in their history and other users can see them.
const KeyVariable = "COUNTERSIGN_ADMIN_KEY"

// Key is an admin key; the zero value is none.
type Key struct {
	secret secret.Secret
	// From says where the key was found, for people; empty when there is none.
	From string
}

// FindKey finds the admin key for an authority: in the given file, otherwise in KeyVariable, otherwise, for
// an authority on loopback, in the file that `countersign dev` writes. A missing key is no error: the
// authority knows whether it needs one.
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
		return Key{}, nil //nolint:nilerr // without a folder there is no file in it
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

// parseKey rejects a text that is no admin key. Otherwise the content of a wrong file, which may be secret,
// would be sent.
func parseKey(text, from string) (Key, error) {
	text = strings.TrimSpace(text)
	if !secret.WellFormedAdminKey(text) {
		return Key{}, fmt.Errorf("%s holds no admin key, which would begin with %s", from, secret.AdminPrefix)
	}
	return Key{secret: secret.New(text), From: from}, nil
}
