//go:build campaign

package faults

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/countersign/countersign/pkg/testkit/check"
)

// TestKilledWhileNobodyReadsItsLog: a killed process counts as gone before anybody reads its log again.
func TestKilledWhileNobodyReadsItsLog(t *testing.T) {
	output, err := os.Create(filepath.Join(t.TempDir(), "log"))
	check.NoError(t, err)
	defer output.Close()
	log, err := newLogPipe(output)
	check.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), "sleep", "60")
	check.NoError(t, cmd.Start())
	p := &process{cmd: cmd, log: log}
	p.lives.Store(1)

	log.held.Lock()
	killed := make(chan bool)
	go func() { killed <- p.kill() }()
	for p.same(1) {
	}
	log.held.Unlock()
	if !<-killed {
		t.Error("there was nothing to kill")
	}
}
