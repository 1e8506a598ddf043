package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// A machine is where it was measured.
type machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
	Bash   string `json:"bash"`
}

func thisMachine() machine {
	return machine{cpuModel(), runtime.NumCPU(), kernel(), runtime.Version(), bashVersion()}
}

func (m machine) String() string {
	return fmt.Sprintf("%s, %d cores, %s, %s, bash %s", m.CPU, m.Cores, m.Kernel, m.Go, m.Bash)
}

func cpuModel() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		name, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func kernel() string {
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return strings.TrimSpace(runtime.GOOS + " " + string(release))
}

func bashVersion() string {
	out, err := exec.Command("bash", "--norc", "--noprofile", "-c", "echo $BASH_VERSION").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
