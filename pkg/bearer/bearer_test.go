package bearer_test

import (
	"errors"
	"testing"

	"github.com/countersign/countersign/pkg/bearer"
)

// Parse has a defined result for every form of an Authorization header that occurs.
func TestParse(t *testing.T) {
	for name, tt := range map[string]struct {
		values []string
		want   string
		err    error
	}{
		"none":                      {nil, "", nil},
		"empty":                     {[]string{""}, "", nil},
		"blanks":                    {[]string{" \t"}, "", nil},
		"as it should be":           {[]string{"Bearer cs_x"}, "cs_x", nil},
		"lower case":                {[]string{"bearer cs_x"}, "cs_x", nil},
		"upper case":                {[]string{"BEARER cs_x"}, "cs_x", nil},
		"several spaces":            {[]string{"Bearer   cs_x"}, "cs_x", nil},
		"blanks around":             {[]string{" Bearer cs_x\t "}, "cs_x", nil},
		"the scheme alone":          {[]string{"Bearer"}, "", nil},
		"the scheme and blanks":     {[]string{"Bearer  "}, "", nil},
		"no scheme":                 {[]string{"cs_x"}, "", bearer.ErrScheme},
		"another scheme":            {[]string{"Basic eDp5"}, "", bearer.ErrScheme},
		"a tab behind the scheme":   {[]string{"Bearer\tcs_x"}, "", bearer.ErrScheme},
		"a colon behind the scheme": {[]string{"Bearer: cs_x"}, "", bearer.ErrScheme},
		"nothing between":           {[]string{"Bearercs_x"}, "", bearer.ErrScheme},
		"two":                       {[]string{"Bearer cs_x", "Bearer cs_y"}, "", bearer.ErrSeveral},
		"twice the same":            {[]string{"Bearer cs_x", "Bearer cs_x"}, "", bearer.ErrSeveral},
		"one and an empty one":      {[]string{"Bearer cs_x", ""}, "", bearer.ErrSeveral},
		// Parse does not judge the secret, since imported secrets may have any form (B11).
		"two in one":           {[]string{"Bearer cs_x, Bearer cs_y"}, "cs_x, Bearer cs_y", nil},
		"quotes":               {[]string{`Bearer "cs_x"`}, `"cs_x"`, nil},
		"a zero-width space":   {[]string{"Bearer cs_x\u200b"}, "cs_x\u200b", nil},
		"a no-break space":     {[]string{"Bearer cs_x\u00a0"}, "cs_x\u00a0", nil},
		"the scheme once more": {[]string{"Bearer Bearer cs_x"}, "Bearer cs_x", nil},
	} {
		got, err := bearer.Parse(tt.values)
		if got.Reveal() != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%s: %q, %v; want %q, %v", name, got.Reveal(), err, tt.want, tt.err)
		}
	}
}
