package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// canFind says that processes can be found here.
const canFind = true

// A process is told from one that got the same number later by when it started.
type process struct {
	pid   int
	start string
}

// find is the process with the number pid, as long as it lives; a zombie does not.
func find(pid int) (process, bool) {
	fields, ok := statFields(pid)
	if !ok || fields[0] == "Z" || fields[0] == "X" {
		return process{}, false
	}
	return process{pid, fields[19]}, true
}

func (p process) alive() bool {
	now, ok := find(p.pid)
	return ok && now == p
}

// statFields are the fields of /proc/PID/stat from the state on.
func statFields(pid int) ([]string, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	end := bytes.LastIndexByte(b, ')')
	if err != nil || end < 0 {
		return nil, false
	}
	fields := strings.Fields(string(b[end+1:]))
	return fields, len(fields) > 19
}

// processesOf describes the living processes that carry mark, a NAME=value of their
// environment, or have their directory or an open file in dir. A shell that took another's
// place was started without the session's environment, which is why that is not enough.
func processesOf(dir, mark string) (found []string) {
	for _, p := range pidsOf(dir, mark) {
		if _, ok := find(p); ok {
			found = append(found, describe(p))
		}
	}
	return found
}

func pidsOf(dir, mark string) (found []int) {
	names, _ := filepath.Glob("/proc/[0-9]*")
	for _, name := range names {
		pid, err := strconv.Atoi(filepath.Base(name))
		if err != nil || pid == os.Getpid() {
			continue
		}
		if hasMark(name, mark) || isIn(name+"/cwd", dir) || hasFileIn(name, dir) {
			found = append(found, pid)
		}
	}
	return found
}

func hasMark(proc, mark string) bool {
	env, err := os.ReadFile(proc + "/environ")
	return err == nil && bytes.Contains(append([]byte{0}, env...), []byte("\x00"+mark+"\x00"))
}

func isIn(link, dir string) bool {
	to, err := os.Readlink(link)
	return err == nil && (to == dir || strings.HasPrefix(to, dir+"/"))
}

func hasFileIn(proc, dir string) bool {
	fds, _ := filepath.Glob(proc + "/fd/*")
	for _, fd := range fds {
		if isIn(fd, dir) {
			return true
		}
	}
	return false
}

func describe(pid int) string {
	command, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	line := strconv.Itoa(pid) + " " + strings.TrimSpace(string(bytes.ReplaceAll(command, []byte{0}, []byte{' '})))
	if fields, ok := statFields(pid); ok {
		line += " (state " + fields[0] + ", parent " + fields[1] + ")"
	}
	return line
}

// killAll is the last resort, for what should not be there.
func killAll(dir, mark string) {
	for _, pid := range pidsOf(dir, mark) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// rssKiB is how much memory a process has in use, 0 if it is gone.
func rssKiB(pid int) int {
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	_, rest, _ := strings.Cut(string(b), "\nVmRSS:")
	if fields := strings.Fields(rest); len(fields) > 0 {
		n, _ := strconv.Atoi(fields[0])
		return n
	}
	return 0
}

// openFDs is how many descriptors a process has open.
func openFDs(pid int) int { return len(fdNames(pid)) }

func fdNames(pid int) (names []string) {
	fds, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/fd/*")
	for _, fd := range fds {
		to, _ := os.Readlink(fd)
		names = append(names, to)
	}
	return names
}
