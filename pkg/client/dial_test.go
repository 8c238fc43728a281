package client_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/client"
)

var kindsOfClients = []string{"calls", "streams"}

// B20: when one of two validators is in trouble, no question with a timeout of a second fails.
func TestB20_OneValidatorInTrouble(t *testing.T) {
	for name, trouble := range map[string]struct{ begin, end func(*validator) }{
		"killed and restarted": {
			func(v *validator) { v.stop() },
			func(v *validator) { v.start(false); time.Sleep(time.Second); v.serving(true) },
		},
		"shut down and restarted": {func(v *validator) {
			v.health.Shutdown()
			v.server.GracefulStop()
			v.stop()
		}, func(v *validator) { v.start(true) }},
		"not loaded": {func(v *validator) {
			v.serving(false)
			v.answers(outcome{err: apierr.Unavailable(apierr.NotLoaded, "not loaded")})
		}, func(v *validator) { v.answers(allowed); v.serving(true) }},
		"its data is too old, and it says it serves": {func(v *validator) {
			v.answers(outcome{err: apierr.Unavailable(apierr.DataTooOld, "old")})
		}, func(v *validator) { v.answers(allowed) }},
		"overloaded": {func(v *validator) {
			v.answers(outcome{err: apierr.Exhausted(apierr.Overloaded, "too many calls")})
		}, func(v *validator) { v.answers(allowed) }},
		"hung":     {func(v *validator) { v.connect(held) }, func(v *validator) { v.connect(open) }},
		"vanished": {func(v *validator) { v.connect(vanished) }, func(v *validator) { v.connect(open) }},
	} {
		for _, kind := range kindsOfClients {
			t.Run(name+", "+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newSite(t, 2)
					c := s.client(t, kind)
					var callers sync.WaitGroup
					defer callers.Wait()
					failed, slowest := 0, time.Duration(0)
					var mu sync.Mutex
					traffic := func(during, every time.Duration) {
						for until := time.Now().Add(during); time.Now().Before(until); time.Sleep(every) {
							callers.Go(func() {
								ctx, cancel := context.WithTimeout(t.Context(), time.Second)
								defer cancel()
								began := time.Now()
								err := ask(ctx, t, c, "x")
								mu.Lock()
								defer mu.Unlock()
								if err != nil {
									if failed++; failed <= 3 {
										t.Error(err)
									}
								}
								slowest = max(slowest, time.Since(began))
							})
						}
					}
					traffic(500*time.Millisecond, 2*time.Millisecond)
					in := s.busiest() // all streams may go to one
					if in.asked() < 100 {
						t.Errorf("only %d questions were asked of the validator that gets into trouble", in.asked())
					}
					go trouble.begin(in)
					traffic(time.Second, 2*time.Millisecond)
					traffic(14*time.Second, 40*time.Millisecond)
					before := in.asked()
					go trouble.end(in)
					traffic(4*time.Second, 10*time.Millisecond)
					// A streaming client returns to the validator with its next stream.
					if n := in.asked() - before; kind == "calls" && n < 20 {
						t.Errorf("only %d questions were asked of the validator when it was back", n)
					}
					callers.Wait()
					if failed > 0 || slowest > 600*time.Millisecond {
						t.Errorf("%d questions failed; the slowest took %v", failed, slowest)
					}
				})
			})
		}
	}
}

// A question that a validator has decided is not asked again, whatever the answer or the error is.
func TestB20_DecidedIsAskedOnce(t *testing.T) {
	for name, err := range map[string]error{
		"a denial":        nil,
		"a bad request":   status.Error(codes.InvalidArgument, "scope"),
		"too many calls":  status.Error(codes.ResourceExhausted, "overloaded"),
		"a fault inside":  status.Error(codes.Internal, "panic"),
		"not let through": status.Error(codes.Unauthenticated, "no certificate"),
	} {
		for _, kind := range kindsOfClients {
			t.Run(name+", "+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newSite(t, 3)
					for _, v := range s.validators {
						v.answers(outcome{decision: deny, err: err})
					}
					c := s.client(t, kind)
					for range 100 {
						got, gotErr := c.Authorize(t.Context(), request("x"))
						if got.Allow || status.Code(gotErr) != status.Code(err) {
							t.Errorf("got %+v, error %v", got, gotErr)
						}
						time.Sleep(time.Millisecond)
					}
					if n := s.asked(); n != 100 {
						t.Errorf("100 questions were asked %d times", n)
					}
				})
			})
		}
	}
}

// A first validator denies late, and a second validator, which was asked meanwhile, cannot answer. The client
// must return the denial. It must not return an outage, because in an outage a program may accept the
// request.
func TestB20_ALateDenialIsNoOutage(t *testing.T) {
	for name, err := range map[string]error{
		"overloaded":     apierr.Exhausted(apierr.Overloaded, "too many calls"),
		"a fault inside": status.Error(codes.Internal, "panic"),
		"not let in":     status.Error(codes.Unauthenticated, "no certificate"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, 2)
				s.validators[0].answers(outcome{decision: deny, wait: 400 * time.Millisecond})
				s.validators[1].answers(outcome{err: err})
				c := s.client(t, "calls")
				synctest.Wait() // for both connections
				denied := 0
				for range 50 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					got, err := c.Authorize(ctx, request("x"))
					switch {
					case err == nil && !got.Allow:
						denied++
					case err == nil, client.Undecided(ctx, err):
						t.Errorf("%+v, %v", got, err)
					}
					cancel()
				}
				if denied < 20 || name == "overloaded" && denied != 50 {
					t.Errorf("%d of 50 questions were denied", denied)
				}
			})
		})
	}
}

// Questions about an app whose policy does not verify use up no second questions of other apps.
func TestB20_OneAppCostsOthersNothing(t *testing.T) {
	for _, kind := range kindsOfClients {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, 2)
				c := s.client(t, kind)
				bad := request("x")
				bad.AppID = unverified
				for range 600 {
					if _, err := c.Authorize(t.Context(), bad); client.Reason(err) != apierr.PolicyUnverified {
						t.Fatal(err)
					}
					for range 2 {
						if err := ask(t.Context(), t, c, "x"); err != nil {
							t.Fatal(err)
						}
					}
				}
				s.busiest().answers(outcome{err: apierr.Unavailable(apierr.DataTooOld, "old")})
				for range 200 {
					_, _ = c.Authorize(t.Context(), bad)
					if err := ask(t.Context(), t, c, "x"); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// When one validator returns TOO_MANY_WAITING, the client asks another validator. It continues to ask the
// first validator other questions.
func TestB25_AnotherValidatorHasRoomToWait(t *testing.T) {
	for _, kind := range kindsOfClients {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, 2)
				c := s.client(t, kind)
				synctest.Wait() // for both connections
				if err := ask(t.Context(), t, c, "x"); err != nil {
					t.Fatal(err)
				}
				full := s.busiest()
				full.answers(outcome{err: apierr.Unavailable(apierr.TooManyWaiting, "too many wait")})
				before := full.asked()
				waits := request("x")
				waits.MinRevision = "r"
				for range 100 {
					if _, err := c.Authorize(t.Context(), waits); err != nil {
						t.Error(err)
					}
					time.Sleep(10 * time.Millisecond)
				}
				if n := full.asked() - before; n < 20 {
					t.Errorf("the first validator was asked %d of 100 questions", n)
				}
			})
		})
	}
}

// An outage of all validators does not double their load. When the outage is over and then one validator gets
// into trouble, no question fails.
func TestBudget(t *testing.T) {
	for name, trouble := range map[string]outcome{
		"undecided": {err: apierr.Unavailable(apierr.DataTooOld, "old")},
		"hung":      {mute: true},
	} {
		for _, kind := range kindsOfClients {
			t.Run(name+", "+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					const questions = 1000
					s := newSite(t, 2)
					c := s.client(t, kind)
					all := func(n int) (failed int) {
						var mu sync.Mutex
						var callers sync.WaitGroup
						for range n {
							callers.Go(func() {
								ctx, cancel := context.WithTimeout(t.Context(), time.Second)
								defer cancel()
								if err := ask(ctx, t, c, "x"); err != nil {
									mu.Lock()
									failed++
									mu.Unlock()
								}
							})
							time.Sleep(2 * time.Millisecond)
						}
						callers.Wait()
						return failed
					}
					if failed := all(10); failed > 0 {
						t.Fatalf("%d questions failed at first", failed)
					}
					for _, v := range s.validators {
						v.answers(trouble)
					}
					before := s.asked()
					if failed := all(questions); failed != questions {
						t.Errorf("%d of %d questions failed", failed, questions)
					}
					second := s.asked() - before - questions
					t.Logf("%d second questions", second)
					if second > 500+20 || second < 100 {
						t.Errorf("%d second questions, want some, and at most 500", second)
					}
					for _, v := range s.validators {
						v.answers(allowed)
					}
					if trouble.mute {
						return // the rest is the same, and takes long
					}
					time.Sleep(2 * time.Second)
					if failed := all(6500); failed > 0 {
						t.Errorf("%d questions failed when the outage was over", failed)
					}
					s.busiest().answers(trouble)
					if failed := all(questions); failed > 0 {
						t.Errorf("%d questions failed because of one validator", failed)
					}
				})
			})
		}
	}
}

// Questions are spread evenly over the validators.
func TestDialSpreads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 5)
		c := s.client(t, "calls")
		synctest.Wait()
		for range 1000 {
			if err := ask(t.Context(), t, c, "x"); err != nil {
				t.Fatal(err)
			}
		}
		for i, v := range s.validators {
			if n := v.asked(); n < 180 || n > 220 {
				t.Errorf("validator %d was asked %d of 1000 questions", i, n)
			}
		}
	})
}

// A question with a MinRevision may wait for its change. Another validator is not asked too soon.
func TestB25_DialMinRevisionWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 2)
		for _, v := range s.validators {
			v.answers(outcome{decision: allow, wait: 400 * time.Millisecond})
		}
		r := request("x")
		r.MinRevision = "some"
		c := s.client(t, "calls")
		for range 10 {
			if _, err := c.Authorize(t.Context(), r); err != nil {
				t.Error(err)
			}
		}
		if n := s.asked(); n != 10 {
			t.Errorf("the client sent %d questions for 10", n)
		}
	})
}

func TestDialRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		addresses []string
		options   client.DialOptions
	}{
		"nobody":             {nil, client.DialOptions{}},
		"no port":            {[]string{"validators"}, client.DialOptions{}},
		"no host":            {[]string{"dns:///:7071"}, client.DialOptions{}},
		"here and elsewhere": {[]string{"localhost:7071", "validator:7071"}, client.DialOptions{}},
	} {
		t.Run(name, func(t *testing.T) {
			connection, err := client.Dial(tt.addresses, tt.options)
			if err == nil {
				_ = connection.Close()
				t.Error("Dial: got no error, want one")
			}
		})
	}
}

// A validator that does not serve is not asked. When only one validator serves, each question is asked once.
func TestDialAsksWhoServes(t *testing.T) {
	for _, kind := range kindsOfClients {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, 2)
				idle, alone := s.validators[0], s.validators[1]
				idle.serving(false)
				synctest.Wait()
				c := s.client(t, kind)
				for range 100 {
					if err := ask(t.Context(), t, c, "x"); err != nil {
						t.Error(err)
					}
				}
				if n := idle.asked(); n > 0 {
					t.Errorf("%d questions were asked of a validator that does not serve", n)
				}
				alone.answers(outcome{err: apierr.Unavailable(apierr.DataTooOld, "old")})
				before := alone.asked()
				for range 100 {
					if err := ask(t.Context(), t, c, "x"); client.Reason(err) != apierr.DataTooOld {
						t.Errorf("got error %v, want the error of the validator", err)
					}
				}
				if n := alone.asked() - before; n != 100 {
					t.Errorf("100 questions were asked %d times", n)
				}
			})
		})
	}
}
