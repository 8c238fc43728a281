package performance

import (
	"context"
	"sync"
	"time"
)

// openLoop makes calls at even intervals, rate of them a second, until ctx ends or limit were made; 0 is no
// limit. Each runs in a goroutine of its own, whether or not those before have returned, and is told when
// it was due: what it counts from there leaves nothing out when the machine or the callee falls behind.
// openLoop returns how many it made, when all have returned.
func openLoop(ctx context.Context, rate float64, limit int, call func(i int, due time.Time)) (made int) {
	var calls sync.WaitGroup
	defer calls.Wait()
	began := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := 0; limit == 0 || i < limit; i++ {
		due := began.Add(time.Duration(float64(i) / rate * float64(time.Second)))
		if early := time.Until(due); early > 0 {
			timer.Reset(early)
			select {
			case <-ctx.Done():
				return i
			case <-timer.C:
			}
		} else if ctx.Err() != nil {
			return i
		}
		calls.Go(func() { call(i, due) })
	}
	return limit
}
