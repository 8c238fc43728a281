package client

import (
	"context"
	"errors"
	"sync"
	"time"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// call is a question on its way over a stream. Its state and place are the stream's, under its lock;
// response and err are for the caller once done has an element, which it gets exactly once, unless the
// caller gives the call up before.
type call struct {
	question *countersignv1.AuthorizeRequest
	state    state
	sequence uint64 // when sent

	previous, next *call // when queued

	done     chan struct{} // of capacity 1: whoever answers waits for no caller
	response *countersignv1.AuthorizeResponse
	err      error

	bound *time.Timer // stopped, but while a caller waits that may not wait for ever
}

type state int

const (
	queued state = iota
	sent
	concluded
)

// pool has calls for their next use. A call in it is known to nobody. The zero value is empty.
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

// conclude gives the caller what came of its question.
func (c *call) conclude(response *countersignv1.AuthorizeResponse, err error) {
	c.response, c.err = response, err
	c.done <- struct{}{}
}

// errLate says that the patience is over.
var errLate = errors.New("no answer yet")

// wait returns when the call is concluded, or the error of a context that ended before. One without a
// deadline ends DefaultTimeout after the question was asked. With a patience above 0 it returns errLate
// when that is over.
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

// queue holds calls in their order. The zero value is empty.
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
