package record_test

import (
	"math/big"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/countersign/countersign/pkg/record"
)

var sums = rapid.Custom(func(t *rapid.T) record.Sum {
	var words [4]uint64
	for i := range words {
		// Words at the edges make carries run through.
		words[i] = rapid.OneOf(rapid.Uint64(), rapid.SampledFrom([]uint64{0, 1, 1<<64 - 1})).Draw(t, "word")
	}
	return record.SumOf(words)
})

// number returns a sum as the number it stands for.
func number(s record.Sum) *big.Int {
	n := new(big.Int)
	for _, word := range s.Words() {
		n.Lsh(n, 64).Or(n, new(big.Int).SetUint64(word))
	}
	return n
}

func TestSumIsAGroup(t *testing.T) {
	modulus := new(big.Int).Lsh(big.NewInt(1), 256)
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := sums.Draw(t, "a"), sums.Draw(t, "b"), sums.Draw(t, "c")
		zero := record.Sum{}
		for law, holds := range map[string]bool{
			"closed":              number(a.Plus(b)).Cmp(new(big.Int).Mod(new(big.Int).Add(number(a), number(b)), modulus)) == 0,
			"difference":          number(a.Minus(b)).Cmp(new(big.Int).Mod(new(big.Int).Sub(number(a), number(b)), modulus)) == 0,
			"commutative":         a.Plus(b) == b.Plus(a),
			"associative":         a.Plus(b).Plus(c) == a.Plus(b.Plus(c)),
			"neutral element":     a.Plus(zero) == a && a.Minus(zero) == a,
			"inverse":             a.Minus(a) == zero && a.Plus(zero.Minus(a)) == zero,
			"minus undoes plus":   a.Plus(b).Minus(b) == a,
			"plus undoes minus":   a.Minus(b).Plus(b) == a,
			"arguments untouched": zero == record.Sum{},
		} {
			if !holds {
				t.Errorf("%s: does not hold for %x, %x, %x", law, a, b, c)
			}
		}
	})
}

// TestSumOfAPartitionTellsOnlyWhatIsInIt: the sum depends neither on the order of changes nor on earlier
// contents.
func TestSumOfAPartitionTellsOnlyWhatIsInIt(t *testing.T) {
	c := newCodec(t)
	rapid.Check(t, func(t *rapid.T) {
		type change struct {
			app      string
			revision uint64
		}
		var changes []change
		now := map[string]uint64{}
		var running record.Sum
		for revision := range uint64(rapid.IntRange(0, 30).Draw(t, "changes")) {
			app := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "app")
			if old, ok := now[app]; ok {
				running = c.Remove(running, 3, app, old)
			}
			running = c.Add(running, 3, app, revision+1)
			now[app] = revision + 1
		}
		for app, revision := range now {
			changes = append(changes, change{app, revision})
		}
		rand.Shuffle(len(changes), func(i, j int) { changes[i], changes[j] = changes[j], changes[i] })
		var sum record.Sum
		for _, ch := range changes {
			sum = c.Add(sum, 3, ch.app, ch.revision)
		}
		if sum != running || c.SealSum(3, sum) != c.SealSum(3, running) {
			t.Fatalf("%x kept up, %x counted anew", running, sum)
		}
	})
}

func TestElementsAndSealsDifferInEverythingThatTheyCover(t *testing.T) {
	c := newCodec(t)
	other := record.NewCodec(fixedRing(t), record.Meta{StoreID: "other", Partitions: 64})
	seen := map[record.Sum]string{}
	add := func(name string, s record.Sum) {
		if was, twice := seen[s]; twice {
			t.Errorf("%s is the same as %s", name, was)
		}
		seen[s] = name
	}
	add("element", c.Add(record.Sum{}, 1, "app", 7))
	add("element of another partition", c.Add(record.Sum{}, 2, "app", 7))
	add("element of a partition with one more byte", c.Add(record.Sum{}, 257, "app", 7))
	add("element of another app", c.Add(record.Sum{}, 1, "apq", 7))
	add("element of another revision", c.Add(record.Sum{}, 1, "app", 8))
	add("element of another store", other.Add(record.Sum{}, 1, "app", 7))
	add("nothing", record.Sum{})

	s := c.Add(record.Sum{}, 1, "app", 7)
	w := s.Words()
	seals := map[record.SealedSum]bool{
		c.SealSum(1, s): true, c.SealSum(2, s): true, other.SealSum(1, s): true,
		c.SealSum(1, s.Plus(record.SumOf([4]uint64{0, 0, 0, 1}))): true, c.SealSum(1, record.Sum{}): true,
		c.SealSum(1, record.SumOf([4]uint64{w[1], w[0], w[2], w[3]})): true,
	}
	if len(seals) != 6 {
		t.Errorf("only %d different seals of 6 sums", len(seals))
	}
}
