package tools

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
)

// TestBackupIsOfOneMomentWhateverIsChangedMeanwhile: each partition in a backup is in one consistent state.
func TestBackupIsOfOneMomentWhateverIsChangedMeanwhile(t *testing.T) {
	s := newSystem(t)
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := s.change(s.app(n%2, w), "Add", addToken(s.app(n%2, w), strconv.Itoa(n))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 10 {
		path := s.backup()
		if v, _, err := s.tools.VerifyFile(t.Context(), path); err != nil || len(v.Findings) > 0 {
			t.Errorf("%+v, %v", v, err)
		}
		s.wantClean()
	}
	close(stop)
	writers.Wait()
}

func TestBackupOfWhatDoesNotVerifyIsRefused(t *testing.T) {
	s := newSystem(t)
	path := s.backup()
	before := check.Must(os.ReadFile(path))(t)
	s.client.HSet(t.Context(), record.KeysOf(2).Policies, s.app(2, 0), "x")
	done, err := s.tools.Backup(t.Context(), path, false)
	if !errors.Is(err, ErrDamaged) || !has(done.Findings, record.KeysOf(2).Policies+" "+s.app(2, 0), "does not verify") {
		t.Errorf("%+v, %v", done, err)
	}
	if after := check.Must(os.ReadFile(path))(t); string(after) != string(before) {
		t.Error("the file was replaced")
	}
	if left := check.Must(os.ReadDir(filepath.Dir(path)))(t); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

// TestReadingGoesOnWhenConnectionsBreak: connections break after a number of replies. Cuts by time would
// leave a slow machine no reply.
func TestReadingGoesOnWhenConnectionsBreak(t *testing.T) {
	s := newSystem(t)
	proxy := redistest.NewProxy(t, s.redis.Address())
	tools := New(clientOf(t, proxy.URL()), s.ring)
	stop := make(chan struct{})
	cuts := 0
	var cutter sync.WaitGroup
	cutter.Go(func() {
		for next := 30; ; {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				if proxy.Replied() >= next {
					proxy.Cut()
					cuts++
					next = proxy.Replied() + 30
				}
			}
		}
	})
	for n := range 10 {
		if v, err := tools.Verify(t.Context()); err != nil || len(v.Findings) > 0 || v.Totals.Apps != 3*partitions {
			t.Errorf("%d: %+v, %v", n, v, err)
		}
	}
	close(stop)
	cutter.Wait()
	if cuts == 0 {
		t.Error("no connection was cut")
	}
}
