package healing

import (
	"errors"
	"strings"
	"time"

	"github.com/countersign/countersign/services/store"
)

// logTry logs and counts the result of one attempt. The caller holds the mutex.
func (h *Healer) logTry(partition int, s *state, healed store.Healed, err error, took time.Duration) {
	switch {
	case err == nil && !healed.Nothing && healed.Lost == 0 && len(healed.Apps) == 0:
		h.log.Info("the store was restored or adopted, and the fleet knows no change beyond it; changes go on",
			"partition", partition, "epoch", healed.Start.Epoch)
	case err == nil && !healed.Nothing:
		h.metrics.heals.Inc()
		h.metrics.changes.Add(float64(healed.Lost))
		h.metrics.apps.Add(float64(len(healed.Apps)))
		s.logged = time.Time{}
		h.log.Warn("the store had lost changes of a partition; they are brought back", "partition", partition,
			"changes", healed.Lost, "apps", healed.Apps, "epoch", healed.Start.Epoch, "took", took.Round(time.Millisecond))
		for app, conflicts := range healed.Conflicts {
			// The log does not have the values. The audit trail has them.
			var what []string
			for _, c := range conflicts {
				what = append(what, strings.TrimSpace(c.TokenID+" "+c.Field))
			}
			h.log.Warn("two histories of an app have changed the same value; the one that denies more stays, the other is given up",
				"partition", partition, "app", app, "given_up", what)
		}
		if len(healed.GivenUp) > 0 {
			h.log.Error("no process holds some changes of earlier epochs any more; they are given up",
				"partition", partition, "cursors", healed.GivenUp)
		}
	case err != nil:
		if errors.Is(err, store.ErrIncomplete) {
			h.metrics.incomplete.Inc()
		} else {
			h.metrics.failures.Inc()
		}
		if time.Since(s.logged) < logInterval {
			return
		}
		s.logged = time.Now()
		if errors.Is(err, store.ErrIncomplete) {
			h.log.Error("the store has lost changes of a partition, and neither this authority nor a validator that reports has"+
				" them; changes there are refused. A validator that has them heals the partition when it reports again; forget one that"+
				" will not come back (countersign fleet forget). If no validator has them, or only the floor file names them, restore a"+
				" backup, or adopt the store as it is (countersign store adopt; docs/operations.md)",
				"partition", partition, "error", err)
			return
		}
		h.log.Error("the store could not be healed; trying again", "partition", partition, "error", err)
	}
}
