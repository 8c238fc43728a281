package report

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// Environment describes the machine and the program of a measurement. Unknown fields are empty.
type Environment struct {
	Time     time.Time `json:"time"`
	CPU      string    `json:"cpu,omitempty"`
	Cores    int       `json:"cores"`
	Memory   uint64    `json:"memoryBytes,omitempty"`
	Platform string    `json:"platform"`
	Kernel   string    `json:"kernel,omitempty"`
	Go       string    `json:"go"`
	GRPC     string    `json:"grpc,omitempty"`
	// Commit is the commit of this program's source. Modified tells that there were uncommitted changes.
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"`
}

// ReadEnvironment describes this machine and this program.
func ReadEnvironment() Environment {
	e := Environment{
		Time: time.Now().UTC().Truncate(time.Second), CPU: field("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(),
		Memory: MemoryBytes(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(),
	}
	if kernel, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		e.Kernel = strings.TrimSpace(string(kernel))
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return e
	}
	for _, module := range info.Deps {
		if module.Path == "google.golang.org/grpc" {
			e.GRPC = module.Version
		}
	}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			e.Commit = setting.Value
		case "vcs.modified":
			e.Modified = setting.Value == "true"
		}
	}
	return e
}

// Write writes the environment as two rows of a table.
func (e Environment) Write(t io.Writer) {
	fmt.Fprintf(t, "Machine\t%s, %d cores, %s, kernel %s\n", OrUnknown(e.CPU), e.Cores, e.Platform, OrUnknown(e.Kernel))
	fmt.Fprintf(t, "Program\t%s, grpc-go %s, commit %s\n", e.Go, OrUnknown(e.GRPC), OrUnknown(e.commit()))
}

func (e Environment) commit() string {
	commit := e.Commit[:min(12, len(e.Commit))]
	if commit != "" && e.Modified {
		commit += " with changes"
	}
	return commit
}

// MemoryBytes returns the size of the machine's memory; 0 when it is unknown.
func MemoryBytes() uint64 {
	text, _, _ := strings.Cut(field("/proc/meminfo", "MemTotal"), " ")
	kilobytes, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return kilobytes << 10
}

// field returns the first value of a name in a file with lines such as "name : value"; empty when the file
// does not have the name.
func field(path, name string) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if key, value, found := strings.Cut(lines.Text(), ":"); found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
