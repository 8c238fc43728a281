package client

import (
	"context"
	"errors"
	"sync"
	"time"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// call is a question in flight over a stream. The stream's lock guards state, sequence, previous and next.
// The caller may read response and err after it has received from done. done gets exactly one element, unless
// the caller abandons the call before.
type call struct {
	question *countersignv1.AuthorizeRequest
	state    state
	sequence uint64 // its number in the stream, once sent

	previous, next *call // in the queue

	done     chan struct{} // of capacity 1, so that the receiver never waits for a caller
	response *countersignv1.AuthorizeResponse
	err      error

	bound *time.Timer // runs only while the caller waits with a patience, or without a deadline in its context
}

type state int

const (
	queued state = iota
	sent
	concluded
)

// pool holds unused calls. Nothing else refers to a call in the pool. The zero value is empty.
type pool struct{ unused sync.Pool }

func (p *pool) call(question *countersignv1.AuthorizeRequest) *call {
	c, _ := p.unused.Get().(*call)
	if c == nil {
		c = &call{done: make(chan struct{}, 1), bound: time.NewTimer(DefaultTimeout)}
		c.bound.Stop()
	}
	c.question = question
	return c
}

func (p *pool) free(c *call) {
	*c = call{done: c.done, bound: c.bound}
	p.unused.Put(c)
}

// conclude gives the caller the outcome of its question.
func (c *call) conclude(response *countersignv1.AuthorizeResponse, err error) {
	c.response, c.err = response, err
	c.done <- struct{}{}
}

// errLate means that the call has no answer after the patience.
var errLate = errors.New("no answer yet")

// wait waits until the call is concluded, and returns nil. It returns the error of ctx when ctx ends before.
// With a patience above 0 it returns errLate after the patience. Otherwise, without a deadline in ctx, it
// returns context.DeadlineExceeded when DefaultTimeout has passed since the question was asked.
func (c *call) wait(ctx context.Context, asked time.Time, patience time.Duration) error {
	var expired <-chan time.Time
	over := context.DeadlineExceeded
	if _, has := ctx.Deadline(); !has {
		expired = c.bound.C
	}
	switch {
	case patience > 0:
		c.bound.Reset(patience)
		expired, over = c.bound.C, errLate
	case expired != nil:
		c.bound.Reset(time.Until(asked.Add(DefaultTimeout)))
	}
	if expired != nil {
		defer c.bound.Stop()
	}
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-expired:
		return over
	}
}

// queue is a first-in, first-out list of calls. The zero value is empty.
type queue struct {
	first, last *call
	length      int
}

func (q *queue) push(c *call) {
	c.state, c.previous, c.next = queued, q.last, nil
	if q.last == nil {
		q.first = c
	} else {
		q.last.next = c
	}
	q.last = c
	q.length++
}

func (q *queue) remove(c *call) {
	if c.previous == nil {
		q.first = c.next
	} else {
		c.previous.next = c.next
	}
	if c.next == nil {
		q.last = c.previous
	} else {
		c.next.previous = c.previous
	}
	c.previous, c.next = nil, nil
	q.length--
}
