package words

import (
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// text returns the text of an error, empty for none.
func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestScopes(t *testing.T) {
	const want = "want events, sessions, ad_revenue, gdpr"
	for given, result := range map[string]struct{ scopes, err string }{
		"events":                   {"events", ""},
		"EVENTS,Sessions":          {"events,sessions", ""},
		"SCOPE_AD_REVENUE, gdpr":   {"ad_revenue,gdpr", ""},
		"scope_events":             {"events", ""},
		"":                         {"", want},
		"events,":                  {"events", want},
		"event":                    {"", want},
		"unspecified":              {"", want},
		"SCOPE_UNSPECIFIED":        {"", want},
		"SCOPE_SCOPE_EVENTS":       {"", want},
		"1":                        {"", want},
		"events,SCOPE_EVENTS":      {"events", "events is listed twice"},
		"TOKEN_STATE_ACTIVE":       {"", want},
		"events,sessions,sessions": {"events,sessions", "sessions is listed twice"},
	} {
		var s Scopes
		if err := text(s.Set(given)); err != result.err || s.String() != result.scopes {
			t.Errorf("Set(%q) = %q, error %q; want %q, %q", given, &s, err, result.scopes, result.err)
		}
	}
}

// B12: the proposed scopes are all scopes of the contract except GDPR.
func TestB12_ProposedScopes(t *testing.T) {
	var want []countersignv1.Scope
	for number := range countersignv1.Scope_name {
		if scope := countersignv1.Scope(number); number != 0 && scope != countersignv1.Scope_SCOPE_GDPR {
			want = append(want, scope)
		}
	}
	slices.Sort(want)
	if got := ProposedScopes(); !slices.Equal(got, want) {
		t.Errorf("ProposedScopes() = %v, want %v", got, want)
	}
}

func TestChoice(t *testing.T) {
	state := countersignv1.TokenState(0).Descriptor()
	only := []protoreflect.EnumNumber{1, 2}
	for given, want := range map[string]string{
		"active": "", "TOKEN_STATE_DISABLED": "",
		"revoked": "want active or disabled", "x": "want active or disabled",
	} {
		c := Choice{Of: state, Only: only}
		if err := text(c.Set(given)); err != want {
			t.Errorf("Set(%q): %q, want %q", given, err, want)
		}
	}
}

func TestEnumOfANewerServer(t *testing.T) {
	if got := Enum(countersignv1.Reason(4711)); got != "4711" {
		t.Errorf("got %q", got)
	}
	if got := ListScopes([]countersignv1.Scope{1, 62}); got != "events,62" {
		t.Errorf("got %q", got)
	}
}

func TestDays(t *testing.T) {
	for given, want := range map[string]time.Duration{
		"7d": 7 * day, "0d": 0, "0s": 0, "1d12h": 36 * time.Hour, "720h": 30 * day, "90m": 90 * time.Minute,
		"106751d": 106751 * day, "1d0.5s": day + time.Second/2,
	} {
		var d Days
		if err := d.Set(given); err != nil || time.Duration(d) != want {
			t.Errorf("Set(%q) = %v, %v, want %v", given, time.Duration(d), err, want)
		}
	}
	for _, given := range []string{
		"", "7", "d", "-7d", "-1h", "1d-1h", "1.5d", "7d7", "1h1d", "1w", "106752d", "106751d100h", "99999999999d", "7 d", "7D",
	} {
		var d Days
		if err := d.Set(given); err == nil {
			t.Errorf("Set(%q) = %v, want an error", given, time.Duration(d))
		}
	}
}

func TestMoment(t *testing.T) {
	var m Moment
	if err := m.Set("2027-01-31T12:00:00.1239+02:00"); err != nil || m.String() != "2027-01-31T10:00:00.123Z" ||
		m.After != nil {
		t.Errorf("got %s, %v", m.String(), err)
	}
	// A duration stays one: converted to a time, it would differ a moment later.
	if err := m.Set("30d"); err != nil || m.After == nil || *m.After != 30*day || !m.IsZero() || m.String() != "30d" {
		t.Errorf("30d is %v, %v", m.String(), err)
	}
	if err := m.Set("0s"); err != nil || m.String() != "0s" {
		t.Errorf("0s is %q, %v", m.String(), err)
	}
	again := Moment{Absolute: true}
	if err := again.Set("30d"); err == nil {
		t.Error("a duration was accepted as a time")
	}
	for _, given := range []string{"", "tomorrow", "2027-01-31", "2027-01-31T12:00:00"} {
		if err := m.Set(given); err == nil {
			t.Errorf("Set(%q): want an error", given)
		}
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 1500 * time.Microsecond: "2ms", 999*time.Millisecond + 900*time.Microsecond: "1s", 59 * time.Second: "59s",
		61 * time.Second: "1m1s", time.Hour: "1h", time.Hour - time.Millisecond: "1h", 7*day - time.Second: "7d",
		36 * time.Hour: "1d12h", -90 * time.Minute: "-1h30m", 400 * day: "400d", 23*time.Hour + 59*time.Minute +
			40*time.Second: "1d",
	} {
		if got := Span(d); got != want {
			t.Errorf("Span(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestRelative(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for after, want := range map[time.Duration]string{
		0: "just now", 900 * time.Millisecond: "just now", 7 * day: "in 7d", -time.Hour: "1h ago",
	} {
		if got := Relative(timestamppb.New(now.Add(after)), now); got != want {
			t.Errorf("Relative(%v) = %q, want %q", after, got, want)
		}
	}
	if got := Relative(nil, now) + Time(nil, now); got != "--" {
		t.Errorf("no time is %q", got)
	}
}

func TestPrintable(t *testing.T) {
	for given, want := range map[string]string{
		"Grüße, 世界": "Grüße, 世界", "it's": "it's", "a\x1b[2Jb\n\tc": `a\x1b[2Jb\n\tc`, "\u202eabc": `\u202eabc`, "": "",
	} {
		if got := Printable(given); got != want {
			t.Errorf("Printable(%q) = %q, want %q", given, got, want)
		}
	}
}

func TestAgo(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for before, want := range map[time.Duration]string{
		-time.Minute: "now", 59 * time.Second: "now", time.Minute: "1 min ago", 59*time.Minute + 59*time.Second: "59 min ago",
		time.Hour: "1 h ago", 47 * time.Hour: "47 h ago", 48 * time.Hour: "2 d ago", 400 * day: "400 d ago",
	} {
		if got := Ago(timestamppb.New(now.Add(-before)), now); got != want {
			t.Errorf("Ago(%v) = %q, want %q", before, got, want)
		}
	}
	if got := Ago(nil, now); got != "never" {
		t.Errorf("no time is %q", got)
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0", 999: "999", 1000: "1,000", 174035: "174,035", 1234567: "1,234,567", math.MaxUint64: "18,446,744,073,709,551,615",
	} {
		if got := Count(n); got != want {
			t.Errorf("Count(%d) = %q, want %q", n, got, want)
		}
	}
	if got := Plural(1, "token") + Plural(0, "token") + Plural(1000, "app"); got != "1 token0 tokens1,000 apps" {
		t.Error(got)
	}
}

// A share that is not nothing, and not everything, never looks like it.
func TestShare(t *testing.T) {
	for _, tt := range []struct {
		part, total uint64
		want        string
	}{
		{0, 0, "0 %"},
		{0, 5, "0 %"},
		{1, 1e9, "< 0.01 %"},
		{5, 1000, "0.50 %"},
		{1, 100, "1.0 %"},
		{999, 1000, "99.9 %"},
		{999_999, 1_000_000, "> 99.9 %"},
		{9996, 10000, "> 99.9 %"},
		{7, 7, "100 %"},
	} {
		if got := Share(tt.part, tt.total); got != tt.want {
			t.Errorf("Share(%d, %d) = %q, want %q", tt.part, tt.total, got, tt.want)
		}
	}
}

func TestChoices(t *testing.T) {
	c := Choices{Of: countersignv1.TokenState(0).Descriptor()}
	if !c.Has(countersignv1.TokenState_TOKEN_STATE_REVOKED) {
		t.Error("without a choice everything is chosen")
	}
	if err := errors.Join(c.Set("active,DISABLED"), c.Set("expired")); err != nil || c.String() != "active,disabled,expired" ||
		c.Has(countersignv1.TokenState_TOKEN_STATE_REVOKED) || !c.Has(countersignv1.TokenState_TOKEN_STATE_EXPIRED) {
		t.Errorf("%q, %v", &c, err)
	}
	if err := text(c.Set("active,")); err != "want active, disabled, revoked, expired" {
		t.Error(err)
	}
}
