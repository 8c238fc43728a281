package importfile

import (
	"fmt"
	"strings"
	"testing"

	"github.com/countersign/countersign/pkg/secret"
)

// Secrets of the tests. No refusal and no error may hold one.
var secrets = []string{
	"97d9b2c1e0f84c5aa1d0b7c6d5e4f3a2", "4c1d9d1c7c3c4b0c8d53f1a1b92e0a01", "aGVsbG8gd29ybGQgMTIzNDU2Nzg5",
}

// utf16 encodes ASCII text as UTF-16, little-endian.
func utf16(text string) string {
	var wide strings.Builder
	for i := range len(text) {
		wide.Write([]byte{text[i], 0})
	}
	return wide.String()
}

// TestB11_HostileFiles: each answer names the line and the field, holds no secret, and does not stop the
// other lines.
func TestB11_HostileFiles(t *testing.T) {
	one, two, three := secrets[0], secrets[1], secrets[2]
	const header = "app_id,name,scopes,secret\n"
	good := "shop,good,events," + one + "\n"
	digest := strings.Repeat("4f", 32)
	for _, tt := range []struct {
		name, text string
		rows       int
		// refused are the refusals; failed is the error about the whole file.
		refused []string
		failed  string
	}{
		{"a good one", header + good, 1, nil, ""},
		{"byte order mark and CRLF", "\ufeff" + strings.ReplaceAll(header+good, "\n", "\r\n"), 1, nil, ""},
		{"byte order mark before JSON", "\ufeff" + `{"app_id":"shop","name":"good","secret":"` + one + `"}`, 1, nil, ""},
		{"semicolons, another order, quotes, no last line feed", `"Secret";NAME; scopes ;"app_id"` + "\n" +
			one + `;"say ""hi""";"events|sessions,ad_revenue";shop`, 1, nil, ""},
		{"tabs and a separator at the end", "app_id\tname\tsha256\t\nshop\tgood\t" + digest + "\t\n", 1, nil, ""},
		{"UTF-16 with a byte order mark", "\xff\xfe" + utf16(header+good), 0, nil, "line 1: the file is UTF-16; save it as UTF-8"},
		{"UTF-16 without one", utf16(header + good), 0, nil, "line 1: the file is not text in UTF-8"},
		{"a workbook", "PK\x03\x04\x14\x00\x06\x00", 0, nil, "line 1: the file is a ZIP archive or a workbook"},
		{"compressed", "\x1f\x8b\x08\x00", 0, nil, "line 1: the file is compressed"},
		{"binary", "\x7fELF\x02\x01\x01\x00\x00" + one, 0, nil, "line 1: the file is not text in UTF-8"},
		{"empty", "", 0, nil, "the file has no tokens"},
		{"only white space", "\n \n\t\n", 0, nil, "the file has no tokens"},
		{"only a header", header, 0, nil, "the file has no tokens"},
		{"an array", `[{"name":"a"}]`, 0, nil, "line 1: want JSON lines"},
		{"no header", good, 0, nil, "line 1: column 1: is unknown; the first line must name the columns"},
		{"a missing column", "app_id,scopes,secret\n" + good, 0, nil, "line 1: name: the header lacks this column"},
		{"no credential column", "\napp_id,name,scopes\n", 0, nil, "line 2: secret: the header lacks this column"},
		{"no app", "name,secret\nx," + one, 0, nil, "line 1: app_id: the header lacks this column; add it, or give --app"},
		{"a duplicate header", "app_id,name,secret,Name\n" + good, 0, nil, "line 1: name: the header has this column twice"},
		{"an unknown column", "app_id,name,secret,password\n", 0, nil, "line 1: column 4: is unknown"},
		{"a header of 10 MB", strings.Repeat("x", 10<<20) + "\n" + good, 0, nil, "line 1: longer than 64 KiB"},
		{
			"a line of 10 MB", header + "shop,long,events," + strings.Repeat(one, 10<<15) + "\n" + good, 1,
			[]string{"line 2: longer than 64 KiB"},
			"",
		},
		{
			"10 MB of spaces", strings.Repeat(" ", 10<<20) + "\n" + header + good, 0, nil, "line 1: longer than 64 KiB",
		},
		{
			"a line of 10 MB of JSON", `{"app_id":"` + strings.Repeat(one, 10<<15) + "\"}\n" +
				`{"app_id":"shop","name":"good","secret":"` + two + `"}`, 1,
			[]string{"line 1: longer than 64 KiB"},
			"",
		},
		{
			"bad quotes", header + `shop,"open,events,` + one + "\n" + `shop,half "quoted" name,events,` + two + "\n" +
				`shop,"closed"x,events,` + three + "\n" + good, 1,
			[]string{
				"line 2: name: a quoted value does not end on its line", "line 3: name: a quote inside of a value",
				"line 4: scopes: want a separator or the end of the line after a closing quote",
			},
			"",
		},
		{
			"too few and too many values", header + "shop,short\n" + "shop,long,events," + one + ",x\n" + good, 1,
			[]string{"line 2: scopes: the line ends before this column", "line 3: column 5: the header has no such column"},
			"",
		},
		{
			"bytes that are not UTF-8", header + "shop,Caf\xe9,events," + one + "\n" + good, 1,
			[]string{"line 2: want UTF-8: a byte is no part of a character"},
			"",
		},
		{
			"wrong scopes", header + "shop,a,event," + one + "\nshop,b,events gdpr," + two + "\nshop,c,events;events," + three +
				"\nshop,d," + one + "," + digest + "\n", 0,
			[]string{
				"line 2: scopes: scope 1 is unknown; want events,sessions,ad_revenue", "line 3: scopes: gdpr cannot be granted",
				"line 4: scopes: events is listed twice", "line 5: scopes: scope 1 is unknown",
			},
			"",
		},
		{
			"the same secret twice", header + good + "shop,other,events," + one + "\nelse,good,events," + one + "\n", 2,
			[]string{"line 3: secret: line 2 has the same secret for the same app"},
			"",
		},
		{
			"a secret and its digest", "app_id,name,secret,sha256\nshop,a,abcdefghijklmnopqrstuvwxyz0123456789,\n" +
				"shop,b,,011fc2994e39d251141540f87a69092b3f22a86767f7283de7eeedb3897bedf6\n", 1,
			[]string{"line 3: sha256: line 2 has the same secret for the same app"},
			"",
		},
		{
			"the same name twice", header + "shop,Cafe\u0301,events," + one + "\nshop, Caf\u00e9 ,events," + two + "\n", 1,
			[]string{"line 3: name: line 2 has the same name for the same app"},
			"",
		},
		{
			"bad values", header + "sh op,a,events," + one + "\nshop,,events," + one + "\nshop,a\u202eb,events," + one +
				"\nshop,weak,events,hunter2\nshop,none,events,\n,a,events," + one + "\nshop,space,events, " + one + "\n", 0,
			[]string{
				"line 2: app_id: want 1 to 64 characters", "line 3: name: want 1 to 100 characters",
				"line 4: name: want characters that can be seen", "line 5: secret: must have at least 112 bits",
				"line 6: secret: want secret or sha256", "line 7: app_id: want the app of the token",
				"line 8: secret: must be printable ASCII without spaces",
			},
			"",
		},
		{
			"bad digests", "app_id,name,secret,sha256\nshop,a,," + one + "\nshop,b," + one + "," + digest + "\nshop,c,," +
				strings.Repeat("0", 64) + "\n", 0,
			[]string{
				"line 2: sha256: want 64 hexadecimal digits", "line 3: secret: want secret or sha256, not both",
				"line 4: sha256: want the digest of a secret",
			},
			"",
		},
		{
			"secrets in the wrong columns", header + "shop,cs_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG0000000,events,x\n", 0,
			[]string{"line 2: secret: must have at least 112 bits"},
			"",
		},
		{
			"bad JSON", strings.Join([]string{
				`{"app_id":"shop","name":"a","secret":"` + one + `","secret":"` + two + `"}`,
				`{"app_id":"shop","name":"a","secret":"` + one + `"}{"name":"b"}`,
				`{"app_id":"shop","Name":"a","secret":"` + one + `"}`,
				`{"app_id":"shop","name":"a","secret":null}`,
				`{"app_id":"shop","name":"a","scopes":"` + one + `","secret":"x"}`,
				`{"app_id":"shop","name":"\ud800","secret":"` + one + `"}`,
				`name,secret`,
			}, "\n"), 0,
			[]string{
				"line 1: secret: the line has this field twice", "line 2: want one object and nothing after it",
				"line 3: column 19: unknown field; want app_id", "line 4: secret: want a string",
				"line 5: scopes: want an array of strings", "line 6: name: want no U+FFFD", "line 7: want one object",
			},
			"",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file, err := Read(strings.NewReader(tt.text), "")
			if tt.failed != "" {
				if err == nil || !strings.HasPrefix(err.Error(), tt.failed) {
					t.Fatalf("%+v, %v; want %q", file, err, tt.failed)
				}
				noSecret(t, err.Error())
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(file.Rows) != tt.rows {
				t.Errorf("%d rows, want %d: %+v", len(file.Rows), tt.rows, file)
			}
			for i, refusal := range file.Refused {
				if i >= len(tt.refused) || !strings.HasPrefix(refusal.String(), tt.refused[i]) {
					t.Errorf("%q is not expected", refusal)
				}
				noSecret(t, fmt.Sprintf("%+v", refusal))
			}
			if len(file.Refused) != len(tt.refused) {
				t.Errorf("%d refusals, want %d", len(file.Refused), len(tt.refused))
			}
		})
	}
}

// TestB02_SecretInTheWrongColumn: everybody who may list would see it.
func TestB02_SecretInTheWrongColumn(t *testing.T) {
	minted := secret.Mint().Reveal()
	for _, column := range []string{"name", "app_id"} {
		text := "secret,app_id,name\n" + secrets[0] + ",shop,good\n" +
			map[string]string{"name": secrets[1] + ",shop,old " + minted, "app_id": secrets[1] + "," + minted + ",old"}[column]
		file, err := Read(strings.NewReader(text), "")
		if err != nil || len(file.Rows) != 1 || len(file.Refused) != 1 ||
			file.Refused[0].String() != "line 3: "+column+": holds a secret, which would be shown to everybody who may list" {
			t.Errorf("%+v, %v", file, err)
		}
	}
}

func noSecret(t *testing.T, text string) {
	t.Helper()
	for _, secret := range secrets {
		if strings.Contains(text, secret) {
			t.Errorf("B02: the answer holds a secret: %q", text)
		}
	}
}
