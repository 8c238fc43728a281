package strictjson

import (
	"strings"
	"testing"
)

// known are the keys of {"list": [{"name"}], "map": {any: ...}}.
func known(path []string, key string) bool {
	switch strings.Join(path, ".") {
	case "":
		return key == "list" || key == "map"
	case "list":
		return key == "name"
	}
	return true
}

func TestCheck(t *testing.T) {
	for data, want := range map[string]string{
		`{"list": [{"name": "a"}, {"name": "b"}], "map": {"a": 1, "A": null}}`: "",
		"null": "", `"text"`: "", "{}": "", "[]": "", " {}\n": "",
		"": ErrForm.Error(), "{}{}": ErrForm.Error(), "{} x": ErrForm.Error(), `{"list": }`: ErrForm.Error(),
		"{}\x00":                             ErrForm.Error(),
		"\ufeff{}":                           ErrBOM.Error(),
		"{\"map\": \"\xff\"}":                ErrUTF8.Error(),
		`{"list": [], "list": []}`:           "line 1: a key is there twice",
		"{\"map\": {\"a\": 1,\n\"a\": 2}}":   "line 2: a key is there twice",
		`{"map": {"a": 1, "\u0061": 2}}`:     "line 1: a key is there twice",
		"{\n\"list\":\n[{\"Name\": \"a\"}]}": "line 3: an unknown key; keys are written in small letters",
		`{"List": []}`:                       "line 1: an unknown key; keys are written in small letters",
		strings.Repeat("[", 1e6) + strings.Repeat("]", 1e6): ErrForm.Error(), // encoding/json has a limit of its own
		strings.Repeat("[", 100) + strings.Repeat("]", 100): ErrDeep.Error(),
	} {
		err := Check([]byte(data), known)
		if (err == nil) != (want == "") || err != nil && err.Error() != want {
			t.Errorf("%.60q: %v, want %q", data, err, want)
		}
	}
}
