package bench

import (
	"strings"
	"testing"
)

func TestTargetOptions(t *testing.T) {
	for flag, o := range map[string]TargetOptions{
		"":              {Connections: 1, InFlight: 1},
		"--connections": {InFlight: 1},
		"--in-flight":   {Connections: 2, InFlight: 1},
		"--rate":        {Connections: 1, InFlight: 1, Rate: -1},
	} {
		err := o.Check()
		if flag == "" && err != nil || flag != "" && (err == nil || !strings.HasPrefix(err.Error(), flag+": want ")) {
			t.Errorf("%s: %v", flag, err)
		}
	}
}
