package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// What processes use is read from /proc. Where there is none, no process is found.

// listener is the process that listens at a host:port of this machine, 0 if there is none
// that can be seen.
func listener(addr string) int {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return 0
	}
	sockets := listening(port)
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && sockets[to] {
			pid, _ := strconv.Atoi(strings.Split(fd, "/")[2])
			return pid
		}
	}
	return 0
}

// listening are the sockets that listen at a port, as they are named in /proc/PID/fd.
func listening(port string) map[string]bool {
	const stateListen = "0A"
	n, _ := strconv.Atoi(port)
	found := map[string]bool{}
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		table, _ := os.ReadFile(name)
		for line := range strings.Lines(string(table)) {
			f := strings.Fields(line)
			if len(f) > 9 && f[3] == stateListen && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", n)) {
				found["socket:["+f[9]+"]"] = true
			}
		}
	}
	return found
}

// family is a process and all that descend from it.
func family(pid int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(stats) == 0 {
		return nil, errNoProcess
	}
	children := map[int][]int{}
	for _, name := range stats {
		b, err := os.ReadFile(name)
		// The name of the program, in parentheses, may contain anything.
		f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
		if err != nil || len(f) < 2 {
			continue // it has ended
		}
		parent, _ := strconv.Atoi(string(f[1]))
		child, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		children[parent] = append(children[parent], child)
	}
	all := []int{pid}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all, nil
}

// proportional is the proportional set size of processes together, in MB: what several of
// them share counts once in all.
func proportional(pids []int) (float64, error) {
	total := 0.0
	for _, pid := range pids {
		kib, err := procField(pid, "smaps_rollup", "Pss:")
		if err != nil {
			return 0, err
		}
		total += kib
	}
	return total * 1024 / megabyte, nil
}

// residentSet is how many MB of memory a process has.
func residentSet(pid int) (float64, error) {
	kib, err := procField(pid, "status", "VmRSS:")
	return kib * 1024 / megabyte, err
}

// procField is the number after a name in a file of a process.
func procField(pid int, file, name string) (float64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/" + file)
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(b), "\n"+name)
	f := strings.Fields(rest)
	if !ok || len(f) == 0 {
		return 0, fmt.Errorf("process %d: no %s in %s", pid, name, file)
	}
	return strconv.ParseFloat(f[0], 64)
}

// cpuSeconds is the time that a process and all that descend from it have had. It is that of
// their threads: the time of a process is only kept in ticks, too coarse for many that do
// next to nothing.
func cpuSeconds(pid int) (float64, error) {
	pids, err := family(pid)
	if err != nil {
		return 0, err
	}
	total := 0.0
	for _, pid := range pids {
		threads, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/schedstat")
		for _, name := range threads {
			b, _ := os.ReadFile(name)
			if f := strings.Fields(string(b)); len(f) > 0 {
				ns, _ := strconv.ParseFloat(f[0], 64)
				total += ns / 1e9
			}
		}
	}
	return total, nil
}
