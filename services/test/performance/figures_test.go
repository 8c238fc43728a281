package performance

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// times collects durations. It is safe for concurrent use.
type times struct {
	mu     sync.Mutex
	all    []time.Duration
	sorted bool
}

func (t *times) add(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all, t.sorted = append(t.all, d), false
}

func (t *times) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.all)
}

// at returns a quantile, 0 to 1: the least duration that this share of durations does not exceed. It is 0
// without durations.
func (t *times) at(q float64) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.all) == 0 {
		return 0
	}
	if !t.sorted {
		slices.Sort(t.all)
		t.sorted = true
	}
	return t.all[min(int(q*float64(len(t.all))), len(t.all)-1)]
}

// ms formats a duration like docs/performance.md.
func ms(d time.Duration) string {
	switch v := float64(d) / float64(time.Millisecond); {
	case v < 10 && v > -10:
		return fmt.Sprintf("%.2f ms", v)
	case v < 1000 && v > -1000:
		return fmt.Sprintf("%.0f ms", v)
	default:
		return fmt.Sprintf("%.2f s", d.Seconds())
	}
}

// mb formats a number of bytes like docs/performance.md.
func mb(bytes int) string { return fmt.Sprintf("%.0f MB", float64(bytes)/1e6) }

func median(values []int) int {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// quantiles are the cells of a table: p50, p99, p99.9 and the largest.
func (t *times) quantiles() []string {
	return []string{ms(t.at(0.5)), ms(t.at(0.99)), ms(t.at(0.999)), ms(t.at(1))}
}

// table is a table of docs/performance.md.
type table struct{ lines []string }

func newTable(columns ...string) *table {
	t := &table{}
	t.row(columns...)
	t.row(slices.Repeat([]string{"---"}, len(columns))...)
	return t
}

func (t *table) row(cells ...string) { t.lines = append(t.lines, "| "+strings.Join(cells, " | ")+" |") }

func (t *table) print(tb testing.TB, title string) {
	tb.Helper()
	tb.Logf("%s\n\n%s\n", title, strings.Join(t.lines, "\n"))
}
