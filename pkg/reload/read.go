package reload

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"os"
)

// maxSize is the size in bytes of the largest file that is read.
const maxSize = 64 << 20

// isRegular reports whether a file can be read repeatedly. A missing file counts as regular.
func isRegular(path string) bool {
	info, err := os.Stat(path)
	return err != nil || info.Mode().IsRegular()
}

// readFiles returns the contents of files in the order of their paths.
func readFiles(paths []string) (contents [][]byte, err error) {
	for _, path := range paths {
		data, err := readFile(path)
		if err != nil {
			return nil, err
		}
		contents = append(contents, data)
	}
	return contents, nil
}

func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	if err == nil && len(data) > maxSize {
		err = fmt.Errorf("%s: the file is too large; want at most %d bytes", path, maxSize)
	}
	return data, err
}

// digest identifies the contents of the files of one source.
type digest [sha256.Size]byte

// digestOf hashes the contents with their lengths, so that moving bytes from one file to the next changes
// the digest.
func digestOf(contents [][]byte) (d digest) {
	hash := sha256.New()
	for _, data := range contents {
		hash.Write(binary.BigEndian.AppendUint64(nil, uint64(len(data))))
		hash.Write(data)
	}
	copy(d[:], hash.Sum(nil))
	return d
}
