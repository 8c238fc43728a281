package grpcclient

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign/countersign/pkg/testkit/testcert"
)

// TestDamagedAuthorities: a damaged file of authorities is an error that names the file.
func TestDamagedAuthorities(t *testing.T) {
	authority, err := testcert.New()
	if err != nil {
		t.Fatal(err)
	}
	whole := bytes.Repeat(authority.PEM, 2)
	damaged := bytes.Clone(whole)
	damaged[len(authority.PEM)/2] = '!'
	path := filepath.Join(t.TempDir(), "ca.pem")
	for _, tt := range []struct {
		data []byte
		want string
	}{
		{whole, ""}, {damaged, path}, {[]byte("nothing"), path}, {nil, path},
	} {
		if err := os.WriteFile(path, tt.data, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Security{CAFile: path}.Credentials("authority:7600")
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.40q: %v, want %q", tt.data, err, tt.want)
		}
	}
}
