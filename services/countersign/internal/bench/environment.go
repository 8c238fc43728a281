package bench

import (
	"bufio"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// Environment is where and with what a comparison was made. What is not known is empty.
type Environment struct {
	Time     time.Time `json:"time"`
	CPU      string    `json:"cpu,omitempty"`
	Cores    int       `json:"cores"`
	Memory   uint64    `json:"memoryBytes,omitempty"`
	Platform string    `json:"platform"`
	Kernel   string    `json:"kernel,omitempty"`
	Go       string    `json:"go"`
	GRPC     string    `json:"grpc,omitempty"`
	// Commit is what this program was built from, Modified that there were changes beside it.
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"`
}

func readEnvironment() Environment {
	e := Environment{
		Time: time.Now().UTC().Truncate(time.Second), CPU: field("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(),
		Memory: memoryBytes(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(),
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

// memoryBytes returns how much memory the machine has; 0 when it is not known.
func memoryBytes() uint64 {
	text, _, _ := strings.Cut(field("/proc/meminfo", "MemTotal"), " ")
	kilobytes, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return kilobytes << 10
}

// field returns the first value of a name in a file of lines such as "name : value"; empty when there is
// none.
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
