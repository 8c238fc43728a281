package fleet

import (
	"log/slog"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
)

// TestB24_IDTaken: a validator whose name another one has taken logs it at once, and once until its reports
// are received again. Other errors do not count as that.
func TestB24_IDTaken(t *testing.T) {
	const says = "another validator that was started later has this one's id"
	inBubble(t, func(t *testing.T, authority *fakeAuthority, between *network) {
		log := &lines{}
		k := start(t, authority, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(log, nil)) })
		k.awaitWelcome()
		want := func(what string, taken bool, times int) {
			t.Helper()
			if k.reporter.IDTaken() != taken || log.count(says) != times {
				t.Errorf("%s: taken %t, said %d times; want %t and %d", what, k.reporter.IDTaken(), log.count(says), taken, times)
			}
		}
		refuse := func(err error) {
			authority.set(func() { authority.refuse = err })
			between.cut()
			time.Sleep(30 * time.Second)
		}
		want("heard", false, 0)
		refuse(status.Error(codes.Unavailable, "no"))
		want("refused", false, 0)
		refuse(apierr.AlreadyExists(apierr.ValidatorIDTaken, "another validator reports by this name, and was started later"))
		want("taken", true, 1)
		refuse(nil)
		k.awaitWelcome()
		want("heard again", false, 1)
		refuse(apierr.AlreadyExists(apierr.ValidatorIDTaken, "another validator that was started later reports by this name now"))
		want("taken again", true, 2)
	})
}

// TestOutageIsSaidOnce: a validator logs that no authority receives its reports after some failed attempts,
// again only for another reason, and logs when the outage is over.
func TestOutageIsSaidOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, authority *fakeAuthority, between *network) {
		log := &lines{}
		k := start(t, authority, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(log, nil)) })
		k.awaitWelcome()
		for n, err := range []error{
			status.Error(codes.Unavailable, "no"), status.Error(codes.PermissionDenied, "never"),
			status.Error(codes.PermissionDenied, "never"),
		} {
			authority.set(func() { authority.refuse = err })
			between.cut()
			time.Sleep(30 * time.Second)
			if got, want := log.count("no authority hears this validator"), min(n+1, 2); got != want {
				t.Errorf("after outage %d: said %d times, want %d", n+1, got, want)
			}
		}
		authority.set(func() { authority.refuse = nil })
		k.awaitWelcome()
		if got := log.count("the authority hears this validator again"); got != 1 {
			t.Errorf("said %d times that it is over, want once", got)
		}
	})
}
