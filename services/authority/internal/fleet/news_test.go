package fleet

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign/countersign/pkg/record"
)

// TestB24_NewsThatAValidatorHasLeft: the news that a validator has left reaches authorities that know the
// validator, and authorities that do not.
func TestB24_NewsThatAValidatorHasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a, b := f.authority(), f.authority()
		time.Sleep(2 * exchangeInterval)
		f.shared.edit(func(map[string]string) { f.shared.deaf = true })
		v := f.validator("v", 0).mustJoin(a, first())
		time.Sleep(2 * publishInterval)
		f.shared.edit(func(map[string]string) { f.shared.deaf = false })
		if err := a.leave(t.Context(), v.next(nil)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * publishInterval)
		synctest.Wait()
		for _, who := range []*authority{a, b} {
			who.want("when it has left", map[string]string{})
		}
		raw, err := a.codec.SealNews([]*record.Validator{{
			ID: "never heard of", InstanceID: "i", Start: time.Now(), Sequence: 2,
			Gone: true, Reported: time.Now(),
		}})
		if err != nil {
			t.Fatal(err)
		}
		a.mergeNews(raw)
		a.want("another", map[string]string{})
	})
}
