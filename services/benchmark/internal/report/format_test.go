package report

import "testing"

func TestNiceStep(t *testing.T) {
	for least, want := range map[float64]float64{0: 1, 1: 1, 1.1: 2, 3: 5, 5.5: 10, 0.03: 0.05, 70: 100} {
		if got := niceStep(least); got < want*0.999 || got > want*1.001 {
			t.Errorf("%v: %v, want %v", least, got, want)
		}
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1_234_567: "1,234,567"} {
		if got := Thousands(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[float64]string{
		0: "0 B", 999: "999 B", 1500: "1.5 kB", 2e6: "2 MB", 7.25e9: "7.2 GB", 3e12: "3000 GB",
	} {
		if got := Bytes(n); got != want {
			t.Errorf("%v: %s, want %s", n, got, want)
		}
	}
}
