package cmdlinetest

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

// Main runs the tests of a command line as its TestMain. Scripts can run the program by its name. A run of
// tests that leaves goroutines behind fails.
func Main(m *testing.M, name string, program func()) {
	testscript.Main(leakChecked{m}, map[string]func(){name: program})
}

// leakChecked fails a test run that leaves goroutines behind.
type leakChecked struct{ *testing.M }

// Run implements testscript.TestingM.
func (m leakChecked) Run() int {
	code := m.M.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		_, _ = os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	return code
}
