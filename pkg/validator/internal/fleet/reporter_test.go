package fleet

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/grpcclient"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/storetest"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// TestHello: the first message of a stream is complete.
func TestHello(t *testing.T) {
	k := start(t, newAuthority(t), func(c *Config) { c.FencedAfter = 90 * time.Second })
	k.awaitWelcome()
	m := k.authority.all()[0]
	if m.GetValidatorId() != "v" || m.GetInstanceId() == "" || m.GetStoreId() != "storetest" || m.GetSequence() == 0 ||
		m.GetDataAge() == nil ||
		m.GetFencedAfter().AsDuration() != 90*time.Second || len(m.GetKeyIds()) != 2 ||
		time.Since(m.GetStartTime().AsTime()) > time.Minute {
		t.Errorf("%v", m)
	}
	if len(m.GetCursors()) != partitions || len(m.GetStateDigests()) != partitions {
		t.Fatalf("%v", m)
	}
	for i, at := range m.GetCursors() {
		partition := int(at.GetPartition())
		head, digest := k.Head(partition), k.Codec().SealSum(partition, k.Sum(partition))
		if at.GetEpoch() != head.Epoch || at.GetRevision() != head.Revision || string(at.GetTag()) != string(head.Tag[:]) ||
			at.GetStoreId() != "" {
			t.Errorf("%v, want %v", at, head.Cursor)
		}
		if string(m.GetStateDigests()[i]) != string(digest.MAC[:]) {
			t.Errorf("digest of %d", partition)
		}
	}
	if k.authority.keys[0] != "Bearer csadm_key" {
		t.Error("the key is not sent")
	}
	if !k.reporter.Connected() || !k.reporter.FloorVerified() || k.reporter.Reports() == 0 {
		t.Error("it does not know that it is heard")
	}
}

// TestB24_WhatDoesNotDecideIsNotReported: a validator does not report the cursors of a replica that it does
// not decide from yet, since receipts rest on them. The replica gets the floor nevertheless.
func TestB24_WhatDoesNotDecideIsNotReported(t *testing.T) {
	k := start(t, newAuthority(t), func(*Config) {})
	k.awaitWelcome()
	k.silent.Store(true)
	made := k.Commit(k.App(2, 0), storetest.AddToken("later"))
	shows := func(m received) bool {
		return slices.ContainsFunc(m.GetCursors(), func(at *countersignv1.Position) bool {
			return at.GetRevision() == made.Cursor.Revision && at.GetPartition() == 2
		})
	}
	seen := len(k.authority.all())
	k.find("three signs of life", func(received) bool { return len(k.authority.all()) >= seen+3 })
	if slices.ContainsFunc(k.authority.all(), shows) {
		t.Error("a change is reported that nothing is decided from")
	}
	k.silent.Store(false)
	k.find("the change, once it decides", shows)
}

// TestSignsOfLife: a validator reports every second, also without changes. The reports show when the store
// cannot be read.
func TestSignsOfLife(t *testing.T) {
	inBubble(t, func(t *testing.T, authority *fakeAuthority, _ *network) {
		k := start(t, authority, func(*Config) {})
		k.awaitWelcome()
		k.Fail(storetest.Faults{Down: errors.New("down")})
		m := k.find("stale data", func(m received) bool { return m.GetStale() })
		if age := m.GetDataAge().AsDuration(); age < replica.StaleAfter || age > replica.StaleAfter+2*Interval {
			t.Errorf("stale at %v", age)
		}
		time.Sleep(10 * Interval)
		var last time.Time
		signs := 0
		for _, m := range authority.all() {
			if m.GetDataAge() == nil {
				continue
			}
			if apart := m.at.Sub(last); !last.IsZero() && apart != Interval {
				t.Errorf("%v apart", apart)
			}
			last, signs = m.at, signs+1
		}
		if signs < 12 {
			t.Errorf("%d signs of life", signs)
		}
	})
}

// TestFloor: the floor reaches the replica. Floors of another store are ignored.
func TestFloor(t *testing.T) {
	authority := newAuthority(t)
	beyond := record.Cursor{Epoch: 1, Revision: 50, Tag: record.Tag{1}}
	position := func(store string, partition uint32) *countersignv1.Position {
		return &countersignv1.Position{StoreId: store, Partition: partition, Epoch: 1, Revision: 50, Tag: beyond.Tag[:]}
	}
	authority.floor = []*countersignv1.Position{
		position("storetest", 2), position("another", 3), {StoreId: "storetest", Partition: 1, Epoch: 1, Tag: []byte{1}},
	}
	k := start(t, authority, func(*Config) {})
	k.awaitWelcome()
	if k.replica.Confirmed(2) != beyond || k.replica.Confirmed(3) == beyond {
		t.Errorf("confirmed %v and %v", k.replica.Confirmed(2), k.replica.Confirmed(3))
	}
	check.Eventually(t, "the fork", func() error {
		if !k.replica.Forked(2) || k.replica.Forked(3) {
			return errors.New("not seen")
		}
		return nil
	})
}

// TestFloorThatIsPending: the floor does not count as verified before it has arrived, however often the
// authority answers.
func TestFloorThatIsPending(t *testing.T) {
	authority := newAuthority(t)
	authority.pending = true
	k := start(t, authority, func(*Config) {})
	check.Eventually(t, "the first answer", func() error {
		if !k.reporter.FloorPending() || !k.reporter.Connected() {
			return errors.New("not heard")
		}
		return nil
	})
	k.find("a later report", func(m received) bool { return m.GetSequence() > 2 })
	select {
	case <-k.welcomed:
		t.Error("it was told the floor")
	default:
	}
	if k.reporter.FloorVerified() {
		t.Error("the floor counts as verified")
	}
	beyond := record.Cursor{Epoch: 1, Revision: 50, Tag: record.Tag{1}}
	authority.tells <- &countersignv1.ReportResponse{Floor: []*countersignv1.Position{
		{StoreId: "storetest", Partition: 2, Epoch: 1, Revision: 50, Tag: beyond.Tag[:]},
	}}
	k.awaitWelcome()
	if k.replica.Confirmed(2) != beyond || !k.reporter.FloorVerified() || k.reporter.FloorPending() {
		t.Errorf(
			"confirmed %v, verified %t, pending %t", k.replica.Confirmed(2), k.reporter.FloorVerified(), k.reporter.FloorPending(),
		)
	}
}

// TestLinks: the validator sends the links that the authority asks for, in messages of bounded size.
func TestLinks(t *testing.T) {
	authority := newAuthority(t)
	k := start(t, authority, func(*Config) {})
	k.awaitWelcome()
	var want []string
	for i := range 60 {
		made := k.Commit(k.App(1, 0), func(d *record.Document) {
			token := storetest.Token(fmt.Sprint(i), fmt.Sprint(i))
			token.Note = strings.Repeat("n", 50_000)
			d.Tokens = append(d.Tokens[:1:1], token)
		})
		want = append(want, string(made.Link))
	}
	if err := k.replica.Reach(t.Context(), 1, k.Head(1).Cursor); err != nil {
		t.Fatal(err)
	}
	authority.wants <- 1
	k.find("the last portion", func(m received) bool { return m.GetLinks().GetLast() })
	var got []string
	portions := 0
	for _, m := range authority.all() {
		if m.GetLinks() == nil {
			continue
		}
		portions++
		size := 0
		for _, link := range m.GetLinks().GetLinks() {
			got, size = append(got, string(link)), size+len(link)
		}
		if m.GetLinks().GetPartition() != 1 || size > batchSize {
			t.Errorf("%d bytes of partition %d", size, m.GetLinks().GetPartition())
		}
	}
	if len(got) < len(want) || strings.Join(got[len(got)-len(want):], "") != strings.Join(want, "") || portions < 3 {
		t.Errorf("%d links in %d portions, want %d", len(got), portions, len(want))
	}
	authority.wants <- 77 // there is no such partition
	authority.wants <- 2
	k.find("another partition", func(m received) bool { return m.GetLinks().GetPartition() == 2 && m.GetLinks().GetLast() })
}

// TestReconnects: after any failure the validator reconnects, soon but not too often.
func TestReconnects(t *testing.T) {
	for name, trouble := range map[string]func(f *fakeAuthority, n *network){
		"refused": func(f *fakeAuthority, n *network) {
			f.set(func() { f.refuse = status.Error(codes.Unavailable, "no") })
			n.cut()
		},
		"no connection": func(_ *fakeAuthority, n *network) {
			n.set(func() { n.refuse = true })
			n.cut()
		},
		"half open":    func(_ *fakeAuthority, n *network) { n.set(func() { n.hole = true }) },
		"not answered": func(f *fakeAuthority, _ *network) { f.set(func() { f.silent = true }) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, authority *fakeAuthority, between *network) {
				k := start(t, authority, func(*Config) {})
				k.awaitWelcome()
				time.Sleep(10 * Interval)
				trouble(authority, between)
				began := time.Now()
				check.Eventually(t, "noticing", func() error {
					if k.reporter.Connected() {
						return errors.New("it believes that it is heard")
					}
					return nil
				})
				// The authority answers a report every Interval.
				if took := time.Since(began); took > silence+looking {
					t.Errorf("noticed after %v", took)
				}
				tries := func() (n int) { authority.set(func() { n = authority.streams }); return n }
				before, tried := tries(), time.Now()
				time.Sleep(30 * time.Second)
				// A pause is maxPause on average, and an unanswered attempt takes up to silence.
				most := int(time.Since(tried) / (maxPause / 2))
				least := map[string]int{
					"refused":      int(time.Since(tried) / (2 * maxPause)),
					"not answered": int(time.Since(tried) / (silence + 2*maxPause)),
				}[name]
				if n := tries() - before; n > most || n < least {
					t.Errorf("%d tries in %v, want %d to %d", n, time.Since(tried), least, most)
				}
				authority.set(func() { authority.refuse, authority.silent = nil, false })
				between.set(func() { between.refuse, between.hole = false, false })
				began = time.Now()
				k.awaitWelcome()
				if took := time.Since(began); took > 2*maxPause+silence+looking {
					t.Errorf("heard again after %v", took)
				}
				// The next stream begins with a complete message.
				last := 0
				for _, m := range authority.all() {
					if m.stream != last && (m.GetValidatorId() != "v" || len(m.GetCursors()) != partitions) {
						t.Errorf("stream %d begins with %v", m.stream, m)
					}
					last = m.stream
				}
			})
		})
	}
}

// looking is the polling interval of check.Eventually.
const looking = 5 * time.Millisecond

// TestLeave: Leave tells the authority, also without an open stream. It does not wait for an authority that
// cannot be reached.
func TestLeave(t *testing.T) {
	const unheard = "no authority has heard that this validator leaves"
	authority, log := newAuthority(t), &lines{}
	k := start(t, authority, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(log, nil)) })
	k.awaitWelcome()
	k.stop()
	k.reporter.Leave("storetest")
	if log.count(unheard) != 0 {
		t.Error("it was heard, and says that it was not")
	}
	all := authority.all()
	last := all[len(all)-1]
	if !last.GetLeaving() || last.GetValidatorId() != "v" || last.GetInstanceId() != all[0].GetInstanceId() ||
		last.GetSequence() != uint64(len(all)) {
		t.Errorf("%v", last)
	}
	nobody, err := New(Config{Authority: "127.0.0.1:1", ID: "v", Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	nobody.Leave("storetest")
	if took := time.Since(began); took > leaveTimeout+time.Second {
		t.Errorf("after %v", took)
	}
	if log.count(unheard) != 1 {
		t.Error("it was not heard, and does not say so")
	}
}

// TestKeyStaysAtHome: the key is not sent over plain text to another machine.
func TestKeyStaysAtHome(t *testing.T) {
	for name, c := range map[string]Config{
		"no name":        {Authority: "localhost:1"},
		"bad name":       {Authority: "localhost:1", ID: "a\n"},
		"no such CA":     {Authority: "localhost:1", ID: "a", Security: grpcclient.Security{CAFile: "missing"}},
		"TLS and no TLS": {Authority: "localhost:1", ID: "a", Security: grpcclient.Security{TLS: true, Plaintext: true}},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	inBubble(t, func(t *testing.T, elsewhere *fakeAuthority, between *network) {
		k := start(t, elsewhere, func(c *Config) { c.Security = grpcclient.Security{TLS: true} })
		time.Sleep(time.Minute)
		k.stop()
		sent := between.written()
		if len(sent) < patience {
			t.Fatalf("it has tried %d times in a minute", len(sent))
		}
		for _, first := range sent {
			if first != handshake {
				t.Errorf("a connection begins with %#x, want a TLS handshake", first)
			}
		}
		if len(elsewhere.all()) != 0 || len(elsewhere.keys) != 0 {
			t.Error("it speaks plain text although it was told not to")
		}
	})
}

// handshake is the first byte of a TLS connection (RFC 8446, section 5.1).
const handshake = 22

func TestFencedAfter(t *testing.T) {
	var none, some, all [policy.MaxScope + 1]time.Duration
	some[1], some[2] = time.Second, time.Second
	for scope := range all {
		all[scope] = time.Duration(scope) * time.Second
	}
	if FencedAfter(none) != 0 || FencedAfter(some) != 0 ||
		FencedAfter(all) != time.Duration(len(countersignv1.Scope_name)-1)*time.Second {
		t.Errorf("%v, %v, %v", FencedAfter(none), FencedAfter(some), FencedAfter(all))
	}
}

// TestB30_HowFarLinksGoBackIsTold: a report says where the links of each partition begin. It says so again
// when the replica has read older links without a new cursor.
func TestB30_HowFarLinksGoBackIsTold(t *testing.T) {
	k := start(t, newAuthority(t), func(*Config) {})
	k.awaitWelcome()
	check.Eventually(t, "reading the log", func() error {
		if n := k.replica.PastBegins(1); n != 0 {
			return fmt.Errorf("the links begin behind %d", n)
		}
		return nil
	})
	s := &session{
		Reporter: k.reporter, of: k.replica, decides: func() bool { return true },
		sent: k.replica.Cursors(), begins: []uint64{0, 1, 0, 0}, // it was told before the log was read
	}
	var m countersignv1.ReportRequest
	s.addMoved(&m)
	if at := m.GetCursors(); len(at) != 1 || at[0].GetPartition() != 1 || !slices.Equal(m.GetPastBegins(), []uint64{0}) {
		t.Errorf("%v", &m)
	}
	var again countersignv1.ReportRequest
	if s.addMoved(&again); len(again.GetCursors()) > 0 {
		t.Errorf("it is told again: %v", &again)
	}
	if hello := k.authority.all()[0]; len(hello.GetPastBegins()) != partitions {
		t.Errorf("%v", hello)
	}
}
