package adminkeys

import (
	"os"
	"path/filepath"
)

// DefaultKeyFile returns where `countersign dev` writes its admin key, and where the other commands look
// for one when the authority is on a loopback address: admin-key in the folder countersign of the user's
// configuration folder. It fails when the user has none.
func DefaultKeyFile() (string, error) {
	folder, err := os.UserConfigDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(folder, "countersign", "admin-key"), nil
}
