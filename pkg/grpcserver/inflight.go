package grpcserver

import (
	"net/http"
	"sync"
)

// inFlight counts the requests in a handler: http.Server.Close leaves them behind without a word. Once wait
// was called it lets none in.
type inFlight struct {
	handler http.Handler

	mu     sync.RWMutex // held for reading to enter, so that none enters while wait begins
	ended  bool
	inside sync.WaitGroup
}

// ServeHTTP passes the request on, unless it came too late.
func (f *inFlight) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !f.enter() {
		http.Error(w, "shutting down", http.StatusServiceUnavailable)
		return
	}
	defer f.inside.Done()
	f.handler.ServeHTTP(w, r)
}

func (f *inFlight) enter() bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if !f.ended {
		f.inside.Add(1)
	}
	return !f.ended
}

// wait lets no more requests in and returns when the last one has left.
func (f *inFlight) wait() {
	f.mu.Lock()
	f.ended = true
	f.mu.Unlock()
	f.inside.Wait()
}
