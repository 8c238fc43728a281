package spread

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

var (
	refused = status.Error(codes.Unavailable, "not loaded")
	left    = status.Error(codes.Canceled, "the caller has gone")
)

// TestUsable tests when a validator is avoided and when it is asked again.
func TestUsable(t *testing.T) {
	after := func(d time.Duration) func(*validator) { return func(*validator) { time.Sleep(d) } }
	ask := func(v *validator) { v.ask() }
	done := func(err error) func(*validator) { return func(v *validator) { v.done(err) } }
	for name, tt := range map[string]struct {
		steps []func(*validator)
		want  bool
	}{
		"new":                             {nil, true},
		"asked":                           {[]func(*validator){ask}, true},
		"silent":                          {[]func(*validator){ask, after(Hush)}, false},
		"silent to one, not to others":    {[]func(*validator){ask, after(Hush), ask, done(nil)}, true},
		"silent, and the caller has left": {[]func(*validator){ask, after(Hush), done(left)}, false},
		"the caller left soon":            {[]func(*validator){ask, done(left)}, true},
		"callers leave soon, and nobody got an answer": {[]func(*validator){
			ask, after(Hush / 2), done(left), ask, after(Hush / 2), done(left),
		}, false},
		"one left soon, long ago":    {[]func(*validator){ask, done(left), after(time.Hour), ask, done(left)}, true},
		"left alone for long enough": {[]func(*validator){ask, after(Hush), done(left), after(aside)}, true},
		"one question is on trial":   {[]func(*validator){ask, after(Hush), done(left), after(aside), ask}, false},
		"the trial is passed":        {[]func(*validator){ask, after(Hush), done(left), after(aside), ask, done(nil)}, true},
		"the trial is not passed": {
			[]func(*validator){ask, after(Hush), done(left), after(aside), ask, after(Hush), done(left)}, false,
		},
		"one UNAVAILABLE":            {[]func(*validator){ask, done(refused)}, true},
		"two of them":                {[]func(*validator){ask, done(refused), ask, done(refused)}, false},
		"two with an answer between": {[]func(*validator){ask, done(refused), ask, done(nil), ask, done(refused)}, true},
		"two, and another on trial": {
			[]func(*validator){ask, done(refused), ask, done(refused), after(aside), ask, done(refused)}, false,
		},
		"an error about the question": {[]func(*validator){
			ask, done(status.Error(codes.InvalidArgument, "scope")), ask, done(status.Error(codes.Internal, "panic")),
		}, true},
		"a stream's trouble": {[]func(*validator){func(v *validator) { routeTo(v).Trouble() }}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newValidator(nil)
				time.Sleep(time.Minute)
				for _, step := range tt.steps {
					step(v)
				}
				if got := v.usable(time.Now()); got != tt.want {
					t.Errorf("usable: %t", got)
				}
			})
		})
	}
}

func routeTo(v *validator) *Route {
	r := NewRoute(false)
	r.chosen.Store(v)
	return r
}

// TestPick tests which validators questions and streams go to.
func TestPick(t *testing.T) {
	const stream = countersignv1.BulkValidatorService_AuthorizeStream_FullMethodName
	pick := func(t *testing.T, p *picker, r *Route, method string) *validator {
		t.Helper()
		info := balancer.PickInfo{FullMethodName: method, Ctx: t.Context()}
		if r == nil {
			r = NewRoute(false)
		}
		info.Ctx = r.With(info.Ctx)
		if _, err := p.Pick(info); err != nil {
			return nil
		}
		return r.chosen.Load()
	}
	shares := func(t *testing.T, p *picker, method string) map[*validator]int {
		got := map[*validator]int{}
		for range 1200 {
			v := pick(t, p, nil, method)
			v.done(nil)
			got[v]++
		}
		return got
	}
	newPicker := func(n int) *picker {
		p := &picker{}
		for range n {
			p.validators = append(p.validators, newValidator(nil))
		}
		return p
	}
	t.Run("evenly, also around one that is left alone", func(t *testing.T) {
		p := newPicker(5)
		p.validators[1].silent()
		for v, n := range shares(t, p, "") {
			if v == p.validators[1] || n != 300 {
				t.Errorf("%d of 1200", n)
			}
		}
	})
	t.Run("less to a busy one", func(t *testing.T) {
		p := newPicker(2)
		p.validators[0].ask()
		if n := shares(t, p, "")[p.validators[0]]; n > 0 {
			t.Errorf("%d to a busy one", n)
		}
	})
	t.Run("all in trouble", func(t *testing.T) {
		p := newPicker(3)
		for _, v := range p.validators {
			v.silent()
		}
		if pick(t, p, nil, "") == nil {
			t.Error("nobody is asked")
		}
	})
	t.Run("another one", func(t *testing.T) {
		p := newPicker(2)
		for range 100 {
			first := NewRoute(false)
			pick(t, p, first, "")
			if other := pick(t, p, first.Other(false), ""); other == nil || other == first.chosen.Load() {
				t.Fatal("the second question went to the same validator")
			}
		}
		alone := newPicker(1)
		if v := pick(t, alone, routeTo(alone.validators[0]).Other(false), ""); v != nil {
			t.Error("the second question went to the only validator")
		}
	})
	t.Run("nobody serves", func(t *testing.T) {
		_, err := newPicker(0).Pick(balancer.PickInfo{Ctx: t.Context()})
		if err != balancer.ErrNoSubConnAvailable { //nolint:errorlint // grpc-go compares it
			t.Errorf("%v: a question must wait", err)
		}
	})
	t.Run("streams to the one with fewest", func(t *testing.T) {
		p := newPicker(2)
		first := pick(t, p, nil, stream)
		for range 10 {
			first.ask()
		}
		if second := pick(t, p, nil, stream); second == first {
			t.Error("two streams to one of two")
		}
	})
	t.Run("patient questions are not counted", func(t *testing.T) {
		p := newPicker(1)
		pick(t, p, NewRoute(true), "")
		if p.validators[0].owed.Load() != 0 {
			t.Error("counted")
		}
	})
}
