package main

import (
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/countersign/countersign/services/internal/cmdline/cmdlinetest"
)

func TestMain(m *testing.M) { cmdlinetest.Main(m, "benchmark", main) }

// The scripts run each command once. They look at no times.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			// With the race detector each command would sleep a second before it ends.
			env.Setenv("GORACE", "atexit_sleep_ms=0")
			// A PATH with this program and without a redis-server.
			env.Setenv("LONELY_PATH", filepath.SplitList(env.Getenv("PATH"))[0])
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": cmdlinetest.Exits, "json": cmdlinetest.JSON},
	})
}
