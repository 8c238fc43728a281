package reload

import (
	"bytes"
	"strings"
	"testing"

	"github.com/countersign/countersign/pkg/testkit/testcert"
)

func certificate(t *testing.T) string {
	t.Helper()
	authority, err := testcert.New()
	if err != nil {
		t.Fatal(err)
	}
	return string(authority.PEM)
}

// TestDamagedCertificates: a list of two certificates with one damaged character is an error, or both
// certificates are read. None is skipped.
func TestDamagedCertificates(t *testing.T) {
	whole := certificate(t) + certificate(t)
	for _, damage := range []byte("!A:\n") {
		for i := range strings.TrimSuffix(whole, "\n") {
			damaged := []byte(whole)
			damaged[i] = damage
			if list, err := Certificates(damaged); err == nil && len(list) != 2 {
				t.Fatalf("%q at %d: %d of 2 certificates are read", damage, i, len(list))
			}
			if damage == '!' {
				if _, err := Authorities([][]byte{damaged}); err == nil {
					t.Fatalf("%q at %d: no error", damage, i)
				}
			}
		}
	}
}

func TestCertificates(t *testing.T) {
	const key = "-----BEGIN X-----\nAA==\n-----END X-----\n"
	one := certificate(t)
	for name, tt := range map[string]struct {
		text string
		want int
	}{
		"one":                           {one, 1},
		"two, with text":                {"# comment\n" + one + "\n# another\n" + one, 2},
		"with a key":                    {key + one, 1},
		"from Windows":                  {strings.ReplaceAll(one+one, "\n", "\r\n"), 2},
		"empty":                         {"", 0},
		"a key only":                    {key, 0},
		"cut":                           {one + one[:len(one)/2], 0},
		"cut after the first line":      {one + "-----BEGIN CERTIFICATE-----\n", 0},
		"no line ends between two":      {strings.TrimSpace(one) + one, 0},
		"a byte order mark":             {"\ufeff" + one + one, 0},
		"a damaged key":                 {one + strings.Replace(key, "AA", "!A", 1), 0},
		"DER of something else":         {one + strings.ReplaceAll(key, "X", "CERTIFICATE"), 0},
		"no certificate, but its lines": {one + "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", 0},
	} {
		list, err := Certificates([]byte(tt.text))
		if len(list) != tt.want || (err == nil) != (tt.want > 0) {
			t.Errorf("%s: %d certificates, %v; want %d", name, len(list), err, tt.want)
		}
		for _, c := range list {
			if !bytes.Equal(c.Raw, list[0].Raw) {
				t.Errorf("%s: holds another certificate", name)
			}
		}
	}
}
