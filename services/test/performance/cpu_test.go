package performance

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/services/internal/daemon"
)

// ownCPU returns the CPU time of this process.
func ownCPU(t testing.TB) time.Duration {
	t.Helper()
	for _, family := range check.Must(daemon.NewRegistry(daemon.Config{}).Gather())(t) {
		if family.GetName() == "process_cpu_seconds_total" {
			return seconds(family.GetMetric()[0].GetCounter().GetValue())
		}
	}
	return 0 // unknown on this system
}

// redisCPU returns the CPU time of a Redis.
func redisCPU(t testing.TB, client *redisfeed.Client) (used time.Duration) {
	t.Helper()
	for line := range strings.Lines(check.Must(client.Info(t.Context(), "cpu").Result())(t)) {
		if name, value, _ := strings.Cut(strings.TrimSpace(line), ":"); name == "used_cpu_user" || name == "used_cpu_sys" {
			used += seconds(check.Must(strconv.ParseFloat(value, 64))(t))
		}
	}
	return used
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
