package record_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/countersign/countersign/pkg/record"
)

func TestKeysOfOnePartitionShareItsHashTag(t *testing.T) {
	all := map[string]int{record.MetaKey: -1}
	for partition := range record.MaxPartitions {
		keys := record.KeysOf(partition)
		tag := fmt.Sprintf("{cs%02d}", partition)
		names := []string{
			keys.Head, keys.Policies, keys.Log, keys.Audit, keys.Hint,
			keys.Request("admin", "CreateToken", "app", "id"),
		}
		for _, name := range names {
			// What Redis hashes is between the first { and the first } behind it (Redis Cluster
			// specification).
			if got := name[strings.Index(name, "{") : strings.Index(name, "}")+1]; got != tag {
				t.Errorf("%s is in the slot of %s, want %s", name, got, tag)
			}
			if other, taken := all[name]; taken {
				t.Errorf("%s belongs to partitions %d and %d", name, other, partition)
			}
			all[name] = partition
			if !strings.HasPrefix(name, "cs:"+tag+":") {
				t.Errorf("%s does not begin with cs:%s:", name, tag)
			}
		}
	}
}

func TestNamesOfKeysArePinned(t *testing.T) {
	keys := record.KeysOf(7)
	got := []string{record.MetaKey, keys.Head, keys.Policies, keys.Log, keys.Audit, keys.Hint, record.KeysOf(123).Head}
	want := []string{
		"cs:meta", "cs:{cs07}:head", "cs:{cs07}:policies", "cs:{cs07}:log", "cs:{cs07}:audit", "cs:{cs07}:hint",
		"cs:{cs123}:head",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// slot is the hash slot of a hash tag: CRC-16/XMODEM mod 16384 (Redis Cluster specification).
func slot(tag string) int {
	crc := uint16(0)
	for i := range len(tag) {
		crc ^= uint16(tag[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return int(crc % 16384)
}

// TestDefaultPartitionsSpreadOverMasters: with 64 partitions none of 3, 6 or 12 masters has more than a
// quarter above its share.
func TestDefaultPartitionsSpreadOverMasters(t *testing.T) {
	if got := slot("123456789"); got != 0x31C3 { // the check value of the specification
		t.Fatalf("the slot function is wrong: %#x", got)
	}
	for _, masters := range []int{3, 6, 12} {
		counts := make([]int, masters)
		for partition := range record.DefaultPartitions {
			counts[slot(fmt.Sprintf("cs%02d", partition))*masters/16384]++
		}
		for master, n := range counts {
			if share := float64(record.DefaultPartitions) / float64(masters); float64(n) > 1.25*share+1 || n == 0 {
				t.Errorf("%d masters: master %d has %d of %d partitions %v", masters, master, n, record.DefaultPartitions, counts)
			}
		}
	}
}

func TestAppsSpreadOverPartitions(t *testing.T) {
	c := newCodec(t)
	counts := make([]int, record.DefaultPartitions)
	for i := range 64_000 {
		counts[c.PartitionOf(fmt.Sprintf("%012d", i))]++
	}
	for partition, n := range counts {
		if n < 850 || n > 1150 { // more than four standard deviations
			t.Errorf("partition %d has %d of 64,000 apps", partition, n)
		}
	}
}

func TestHintChannelsAreRecognisedExactly(t *testing.T) {
	for partition := range record.MaxPartitions {
		if got, err := record.PartitionOfHint(record.KeysOf(partition).Hint); got != partition || err != nil {
			t.Errorf("channel of partition %d is one of %d (%v)", partition, got, err)
		}
	}
	for _, channel := range []string{
		"", "cs:{cs07}:head", "cs:{cs7}:hint", "cs:{cs007}:hint", "cs:{cs+7}:hint", "cs:{cs-1}:hint", "cs:{cs256}:hint",
		"cs:{cs999999999999999999999}:hint",
		"cs:{cs07}:hint:hint", "cs:{cs07}:hint ", " cs:{cs07}:hint", "cs:{cs 07}:hint", "cs:{cs07 }:hint", "cs:{cs0x7}:hint",
		"cs:{cs}:hint",
		"cs:{cs07:hint", "CS:{cs07}:hint", "cs:{cs07}:HINT", "xcs:{cs07}:hint", "cs:{cs07}:hint\n",
	} {
		if got, err := record.PartitionOfHint(channel); err == nil {
			t.Errorf("%q is taken for the hint channel of partition %d", channel, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		channel := rapid.StringMatching(`(cs:)?\{?cs[0-9+ -]{0,4}\}?:(hint)?.?`).Draw(t, "channel")
		if got, err := record.PartitionOfHint(channel); err == nil && record.KeysOf(got).Hint != channel {
			t.Fatalf("%q is taken for the hint channel of partition %d", channel, got)
		}
	})
}

// TestRequestKeysOfDifferentCallsDiffer: they differ also when one part looks like the end of another.
func TestRequestKeysOfDifferentCallsDiffer(t *testing.T) {
	keys := record.KeysOf(1)
	parts := rapid.SliceOfN(rapid.StringMatching(`[01a:|/ ]{0,6}`), 4, 4)
	rapid.Check(t, func(t *rapid.T) {
		a, b := parts.Draw(t, "a"), parts.Draw(t, "b")
		if rapid.Bool().Draw(t, "same text") { // the same characters, parted in another place
			text := a[0] + a[1] + a[2] + a[3]
			cuts := [5]int{4: len(text)}
			for i := 1; i < 4; i++ {
				cuts[i] = rapid.IntRange(cuts[i-1], len(text)).Draw(t, "cut")
			}
			for i := range b {
				b[i] = text[cuts[i]:cuts[i+1]]
			}
		}
		one, other := keys.Request(a[0], a[1], a[2], a[3]), keys.Request(b[0], b[1], b[2], b[3])
		if (one == other) != reflect.DeepEqual(a, b) {
			t.Fatalf("%q has key %s, %q has %s", a, one, b, other)
		}
		if one == record.KeysOf(2).Request(a[0], a[1], a[2], a[3]) {
			t.Fatalf("%s is the key in two partitions", one)
		}
	})
}
