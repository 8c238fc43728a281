package grpcserver

import (
	"net/http"
	"sync"
)

// inFlight counts the requests in a handler, because http.Server.Close does not wait for them. It rejects
// requests once wait was called. It is safe for concurrent use.
type inFlight struct {
	handler http.Handler

	mu      sync.RWMutex // held for reading in enter, so that no request enters while wait begins
	closed  bool
	running sync.WaitGroup
}

// ServeHTTP passes the request on, or answers 503 once wait was called.
func (f *inFlight) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !f.enter() {
		http.Error(w, "shutting down", http.StatusServiceUnavailable)
		return
	}
	defer f.running.Done()
	f.handler.ServeHTTP(w, r)
}

func (f *inFlight) enter() bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if !f.closed {
		f.running.Add(1)
	}
	return !f.closed
}

// wait rejects further requests and returns when the last one has ended.
func (f *inFlight) wait() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.running.Wait()
}
