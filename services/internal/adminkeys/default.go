package adminkeys

import (
	"os"
	"path/filepath"
)

// DefaultKeyFile returns the path of the default file of an admin key: admin-key in the folder countersign of
// the user's configuration folder. `countersign dev` writes its key there, and the other commands read it for
// an authority on a loopback address. It fails when the user has no configuration folder.
func DefaultKeyFile() (string, error) {
	folder, err := os.UserConfigDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(folder, "countersign", "admin-key"), nil
}
