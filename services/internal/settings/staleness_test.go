package settings

import (
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

func TestMaxStaleness(t *testing.T) {
	const events, sessions, adRevenue, gdpr = 1, 2, 3, 4
	for _, tt := range []struct {
		text  string
		want  map[int]time.Duration
		rest  time.Duration
		wrong string
	}{
		{text: "events=10m,gdpr=2s", want: map[int]time.Duration{events: 10 * time.Minute, gdpr: 2 * time.Second}},
		{text: "all=1h", want: map[int]time.Duration{events: time.Hour, adRevenue: time.Hour, 63: time.Hour}, rest: time.Hour},
		{text: "events=2s,all=1h", want: map[int]time.Duration{events: 2 * time.Second}, rest: time.Hour},
		{
			text: " AD_Revenue = 100ms , sessions=720h",
			want: map[int]time.Duration{adRevenue: 100 * time.Millisecond, sessions: 720 * time.Hour},
		},
		{text: "", wrong: "want scope=duration"},
		{text: "10m", wrong: "want scope=duration"},
		{text: "events:10m", wrong: "want scope=duration"},
		{text: "clicks=10m", wrong: "the scopes are all, events, sessions, ad_revenue, gdpr"},
		{text: "unspecified=10m", wrong: "want scope=duration"},
		{text: "events=10m,", wrong: "want scope=duration"},
		{text: "events=10m,events=5m", wrong: "events is listed twice"},
		{text: "events=10", wrong: "want durations such as"},
		{text: "events=99ms", wrong: "want durations from 100ms to 720h"},
		{text: "events=721h", wrong: "want durations from 100ms to 720h"},
		{text: "events=-1s", wrong: "want durations from 100ms to 720h"},
	} {
		root := &cobra.Command{
			Use: "x", RunE: func(*cobra.Command, []string) error { return nil }, SilenceErrors: true,
			SilenceUsage: true,
		}
		bounds := MaxStaleness(root.Flags(), "max-staleness", "x")
		BindEnv(root)
		root.SetArgs([]string{"--max-staleness", tt.text})
		err := root.Execute()
		if tt.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), tt.wrong) || !strings.Contains(err.Error(), "--max-staleness") {
				t.Errorf("%q: %v, want %q", tt.text, err, tt.wrong)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", tt.text, err)
		}
		for scope, got := range bounds {
			want, own := tt.want[scope]
			if !own {
				want = tt.rest
			}
			if got != want {
				t.Errorf("%q: scope %d has %v, want %v", tt.text, scope, got, want)
			}
		}
	}
}
