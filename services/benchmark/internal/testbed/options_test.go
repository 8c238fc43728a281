package testbed

import (
	"strings"
	"testing"

	"github.com/countersign/countersign/services/internal/load"
)

func good() Options {
	return Options{
		Rounds: 11, Connections: 4, InFlight: 32, Tokens: 1000, TokensPerApp: 10, Rates: []int{500}, Mix: Mixed,
		Arrivals: load.Poisson, Validators: 1,
	}
}

// For each wrong option, the error begins with the flag of that option.
func TestOptions(t *testing.T) {
	if err := good().Check(); err != nil {
		t.Fatal(err)
	}
	for flag, changes := range map[string][]func(*Options){
		"--rounds": {func(o *Options) { o.Rounds = 0 }},
		"--connections": {
			func(o *Options) { o.Connections = 0 }, func(o *Options) { o.Connections, o.InFlight = 2000, 4000 },
		},
		"--in-flight": {func(o *Options) { o.InFlight = 3 }, func(o *Options) { o.InFlight = 1 << 20 }},
		"--tokens":    {func(o *Options) { o.Tokens = 0 }, func(o *Options) { o.Tokens = 10_000_001 }},
		"--tokens-per-app": {
			func(o *Options) { o.TokensPerApp = 0 }, func(o *Options) { o.TokensPerApp = 1001 }, func(o *Options) { o.Tokens = 9 },
		},
		"--changes-per-second": {func(o *Options) { o.ChangesPerSecond = -1 }, func(o *Options) { o.ChangesPerSecond = 5001 }},
		"--validators":         {func(o *Options) { o.Validators = 0 }, func(o *Options) { o.Validators = 201 }},
		"--legs":               {func(o *Options) { o.Legs = []string{"validator", "valdator"} }},
	} {
		for i, change := range changes {
			o := good()
			change(&o)
			if err := o.Check(); err == nil || !strings.HasPrefix(err.Error(), flag+": want ") {
				t.Errorf("%s, change %d: got error %v, want one that begins with %s", flag, i, err, flag+": want ")
			}
		}
	}
}

func TestMixFlag(t *testing.T) {
	var m Mix
	for text, good := range map[string]bool{
		"valid": true, "unknown": true, "mixed": true, "malformed": true, "others": true, "": false, "all": false,
	} {
		if err := m.Set(text); (err == nil) != good || good && m.String() != text {
			t.Errorf("Set(%q): error %v, value %s; want accepted %t", text, err, m, good)
		}
	}
}

func TestProcessors(t *testing.T) {
	for _, tt := range []struct {
		cpus   []int
		pinned bool
		server int
		others int
	}{{nil, false, 0, 0}, {[]int{3}, false, 0, 0}, {[]int{0, 1}, true, 1, 1}, {[]int{2, 5, 7}, true, 7, 2}} {
		p := divide(tt.cpus)
		if p.pinned() != tt.pinned || len(p.others) != tt.others ||
			tt.pinned && (len(p.servers) != 1 || p.servers[0] != tt.server) {
			t.Errorf("CPUs %v: got %+v; want pinned %t, server CPU %d, %d other CPUs", tt.cpus, p, tt.pinned, tt.server, tt.others)
		}
	}
}

func TestRatesFlag(t *testing.T) {
	for text, want := range map[string]string{
		"500": "500", "500,3000": "500,3000", "none": "none", "": "", "0": "",
		"500,": "", "500,none": "", "1e3": "", "1000001": "",
	} {
		var r Rates
		if err := r.Set(text); (err == nil) != (want != "") || err == nil && r.String() != want {
			t.Errorf("Set(%q): error %v, value %s; want %q (empty: an error)", text, err, &r, want)
		}
	}
}
