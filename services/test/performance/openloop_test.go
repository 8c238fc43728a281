package performance

import (
	"context"
	"sync"
	"time"
)

// openLoop makes calls at even intervals, rate of them per second, until ctx ends or limit calls were made; 0
// is no limit. Each call runs in its own goroutine, whether or not earlier calls have returned. Call gets the
// time when it was due: a latency from there includes all delays of the machine and of the callee. openLoop
// returns the number of calls when all have returned.
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
