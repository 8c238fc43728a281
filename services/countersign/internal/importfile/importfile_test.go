package importfile

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestB11_RowsAreReadWholly(t *testing.T) {
	const text = `name;sha256;app_id;scopes;secret
"a;b";;shop;"events,sessions";97d9b2c1e0f84c5aa1d0b7c6d5e4f3a2

 second ;4F4F4F4F4F4F4F4F4F4F4F4F4F4F4F4F4F4F4F4F4F4F4F4F4F4F4F4F4F4F4F4F;;ad_revenue;
`
	file, err := Read(strings.NewReader(text), "shop")
	if err != nil || len(file.Rows) != 2 || len(file.Refused) != 0 {
		t.Fatalf("%+v, %v", file, err)
	}
	first, second := file.Rows[0], file.Rows[1]
	if first.Line != 2 || first.AppID != "shop" || first.Import.GetName() != "a;b" ||
		first.Import.GetSecret() != "97d9b2c1e0f84c5aa1d0b7c6d5e4f3a2" || !slices.Equal(first.Import.GetScopes(),
		[]countersignv1.Scope{countersignv1.Scope_SCOPE_EVENTS, countersignv1.Scope_SCOPE_SESSIONS}) {
		t.Errorf("%+v", first)
	}
	if second.Line != 4 || second.AppID != "shop" || second.Import.GetName() != "second" ||
		string(second.Import.GetSha256()) != strings.Repeat("O", 32) {
		t.Errorf("%+v", second)
	}
	other, err := Read(strings.NewReader(text), "else")
	if err != nil || len(other.Rows) != 1 || len(other.Refused) != 1 ||
		other.Refused[0].String() != "line 2: app_id: differs from --app; leave --app out when the file names apps" {
		t.Errorf("%+v, %v", other, err)
	}
}

// A file that cannot be read to its end is not half imported.
func TestReadError(t *testing.T) {
	broken := errors.New("broken")
	for _, start := range []string{"", "app_id,name,secret\nshop,a,97d9b2c1e0f84c5aa1d0b7c6d5e4f3a2\n", "app_id,na"} {
		from := iotest.DataErrReader(strings.NewReader(start))
		if file, err := Read(&failing{from, broken}, ""); !errors.Is(err, broken) {
			t.Errorf("%q: %+v, %v", start, file, err)
		}
	}
}

// failing reads from another reader and fails at its end.
type failing struct {
	from interface{ Read([]byte) (int, error) }
	err  error
}

// Read implements io.Reader.
func (f *failing) Read(p []byte) (int, error) {
	n, err := f.from.Read(p)
	if err != nil {
		err = f.err
	}
	return n, err
}

// A written value is read back, whatever it is, with every separator.
func TestCSVRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		separator := rapid.SampledFrom([]byte{',', ';', '\t'}).Draw(t, "separator")
		values := rapid.SliceOfN(rapid.StringMatching(`[ -~é"',;|]{0,12}`), 1, 6).Draw(t, "values")
		quoted := make([]string, len(values))
		for i, value := range values {
			quoted[i] = value
			if strings.ContainsAny(value, `"`+string(rune(separator))) || rapid.Bool().Draw(t, "quote") {
				quoted[i] = `"` + strings.ReplaceAll(value, `"`, `""`) + `"`
			}
		}
		line := strings.Join(quoted, string(rune(separator)))
		if got, err := split(line, separator); err != nil || !slices.Equal(got, values) {
			t.Fatalf("%q is read as %q, %v; want %q", line, got, err, values)
		}
	})
}

// FuzzRead: every line with content is a row or a refusal, and no refusal repeats a long word of the file.
func FuzzRead(f *testing.F) {
	f.Add([]byte("app_id,name,secret\nshop,a,97d9b2c1e0f84c5aa1d0b7c6d5e4f3a2\n"), "")
	f.Add([]byte(`{"name":"a","secret":"97d9b2c1e0f84c5aa1d0b7c6d5e4f3a2"}`+"\n\n{"), "shop")
	f.Add([]byte("name;sha256\r\n\"x"), "shop")
	f.Fuzz(func(t *testing.T, data []byte, appID string) {
		file, err := Read(strings.NewReader(string(data)), appID)
		if err != nil {
			return
		}
		seen := map[int]bool{}
		for _, row := range file.Rows {
			seen[row.Line] = true
		}
		for _, refusal := range file.Refused {
			if seen[refusal.Line] {
				t.Errorf("line %d is in both lists", refusal.Line)
			}
			seen[refusal.Line] = true
		}
		lines := 0
		for line := range strings.Lines(strings.TrimPrefix(string(data), "\ufeff")) {
			if strings.TrimSpace(line) != "" {
				lines++
			}
		}
		if len(seen) != lines && len(seen) != lines-1 { // CSV has a header
			t.Errorf("%d lines, %d of them answered: %s", lines, len(seen), fmt.Sprint(file))
		}
	})
}
