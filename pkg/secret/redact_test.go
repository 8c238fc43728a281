package secret_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"text/template"

	"github.com/countersign/countersign/pkg/secret"
)

// holder is a struct of another package that holds secrets, like a request or a command.
type holder struct {
	Name   string
	Secret secret.Secret
	Ref    *secret.Secret
	Many   []secret.Secret
	ByName map[string]secret.Secret
	Any    any
}

func hold(s secret.Secret) holder {
	return holder{"partner", s, &s, []secret.Secret{s}, map[string]secret.Secret{"one": s}, s}
}

// checkHidden fails when the output contains a recognisable part of the secret, in any of the ways in which
// fmt writes text.
func checkHidden(t *testing.T, what, output string, s secret.Secret) {
	t.Helper()
	const part = 6
	random := strings.TrimPrefix(s.Reveal(), secret.Prefix)
	for i := range len(random) - part + 1 {
		piece := random[i : i+part]
		for _, form := range []string{
			piece,
			fmt.Sprintf("%x", piece), fmt.Sprintf("%X", piece), fmt.Sprintf("% x", piece), fmt.Sprintf("% X", piece),
			strings.Trim(fmt.Sprintf("%d", []byte(piece)), "[]"), strings.Trim(fmt.Sprintf("%q", []rune(piece)), "[]"),
		} {
			if strings.Contains(output, form) {
				t.Errorf("%s shows the secret: %s", what, output)
				return
			}
		}
	}
}

func TestB02_FormattingHidesTheSecret(t *testing.T) {
	s := secret.Mint()
	values := map[string]any{
		"value": s, "pointer": &s, "slice": []secret.Secret{s}, "array": [1]secret.Secret{s},
		"map":    map[string]secret.Secret{"k": s},
		"struct": hold(s), "pointer to struct": new(hold(s)), "interfaces": []any{s, &s, hold(s)},
	}
	for kind, value := range values {
		for _, verb := range "vsqxXdobcOUeEfFgGtT" {
			for _, flags := range []string{"", "+", "#", "-", " ", "0", "+#", "60", "-60", ".3", "60.60", "# "} {
				format := "%" + flags + string(verb)
				checkHidden(t, format+" of a "+kind, fmt.Sprintf(format, value), s)
			}
		}
		checkHidden(t, "Sprint of a "+kind, fmt.Sprint(value), s)
		checkHidden(t, "Sprintln of a "+kind, fmt.Sprintln("token", value), s)
		checkHidden(t, "Errorf of a "+kind, fmt.Errorf("token %v: %w", value, errors.ErrUnsupported).Error(), s)
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(format, s); got != secret.Redacted {
			t.Errorf("%s = %q, want %q", format, got, secret.Redacted)
		}
	}
	if got := s.String(); got != secret.Redacted {
		t.Errorf("String = %q, want %q", got, secret.Redacted)
	}
}

func TestB02_LogsHideTheSecret(t *testing.T) {
	s := secret.Mint()
	handlers := map[string]func(*bytes.Buffer) slog.Handler{
		"text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"json": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	}
	for name, handler := range handlers {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			log := slog.New(handler(&out)).With("bound", s)
			log.Info("value", "secret", s)
			log.Info("pointer", "secret", &s)
			log.Info("any", slog.Any("secret", s), slog.Any("holder", hold(s)), slog.Any("holder", new(hold(s))))
			log.WithGroup("g").Info("group", slog.Group("inner", "secret", s))
			log.Error("error", "error", fmt.Errorf("token %v", s))
			checkHidden(t, "the log", out.String(), s)
			if !strings.Contains(out.String(), secret.Redacted) {
				t.Errorf("the log does not say that there was a secret: %s", out.String())
			}
		})
	}
}

func TestB02_EncodingHidesTheSecret(t *testing.T) {
	s := secret.Mint()
	for name, value := range map[string]any{
		"value": s, "pointer": &s, "struct": hold(s), "slice": []secret.Secret{s},
	} {
		out, err := json.Marshal(value)
		if err != nil {
			t.Fatalf("json of a %s: %v", name, err)
		}
		checkHidden(t, "json of a "+name, string(out), s)
		if !strings.Contains(string(out), secret.Redacted) {
			t.Errorf("json of a %s = %s, want the placeholder in it", name, out)
		}
	}
	type document struct {
		Element   secret.Secret
		Attribute secret.Secret `xml:",attr"`
	}
	out, err := xml.Marshal(document{s, s})
	if err != nil {
		t.Fatalf("xml: %v", err)
	}
	checkHidden(t, "xml", string(out), s)

	var page strings.Builder
	words := template.Must(template.New("").Parse("{{.}} {{.Secret}} {{printf `%s %v` .Secret .Ref}}"))
	if err := words.Execute(&page, hold(s)); err != nil {
		t.Fatalf("template: %v", err)
	}
	checkHidden(t, "a template", page.String(), s)
}

// TestB02_RevealIsTheOnlyWay: the owner can still get the text.
func TestB02_RevealIsTheOnlyWay(t *testing.T) {
	for _, text := range []string{"", "x", secret.Mint().Reveal()} {
		if got := secret.New(text).Reveal(); got != text {
			t.Errorf("Reveal = %q, want %q", got, text)
		}
	}
	var zero secret.Secret
	if got := zero.Reveal(); got != "" {
		t.Errorf("Reveal of the zero value = %q, want nothing", got)
	}
}

// B02: a secret is found anywhere in a text, and nothing else is taken for a secret.
func TestB02_Within(t *testing.T) {
	minted, key := secret.Mint().Reveal(), secret.MintAdminKey().Reveal()
	for text, want := range map[string]bool{
		minted: true, key: true, "see " + minted + ", please": true, minted + minted: true, "x" + key: true,
		"": false, "backend": false, minted[1:]: false, minted[:len(minted)-1]: false, "cs_" + strings.Repeat("a", 49): false,
	} {
		if got := secret.Within(text); got != want {
			t.Errorf("Within(%d characters) = %t, want %t", len(text), got, want)
		}
	}
}
