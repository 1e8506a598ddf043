package main

import (
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// What a server should be able to have: a session takes a dozen descriptors and two processes
// at work, and what it runs is beside that.
const (
	wantedFiles     = 16 << 10
	leastFiles      = 1 << 10
	wantedProcesses = 4 << 10
	wantedMemory    = 512 << 20
)

// checkLimits looks at what the system allows this user.
func checkLimits() []finding {
	return []finding{checkFiles(), checkProcesses(), checkMemory()}
}

func checkFiles() finding {
	const check = "descriptors"
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return poor(check, statusWarn, "see getrlimit(2)", "%v", err)
	}
	// Go raises the soft limit to the hard one.
	switch advice := "raise it: LimitNOFILE= in the unit, ulimit -Hn in a shell"; {
	case lim.Max < leastFiles:
		return poor(check, statusFail, advice, "at most %s: that is enough for a few sessions only", limitText(lim.Max))
	case lim.Max < wantedFiles:
		return poor(check, statusWarn, advice, "at most %s: about %d sessions at work", limitText(lim.Max), lim.Max/16)
	}
	return ok(check, "at most %s", limitText(lim.Max))
}

func checkProcesses() finding {
	const check = "processes"
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &lim); err != nil {
		return poor(check, statusWarn, "see getrlimit(2)", "%v", err)
	}
	if lim.Cur < wantedProcesses {
		return poor(check, statusWarn, "raise it: LimitNPROC= or TasksMax= in the unit, ulimit -u in a shell", "at most %s of this user at a time, threads included", limitText(lim.Cur))
	}
	return ok(check, "at most %s", limitText(lim.Cur))
}

func limitText(n uint64) string {
	if n == unix.RLIM_INFINITY {
		return "as many as there is room for"
	}
	return strconv.FormatUint(n, 10)
}

func checkMemory() finding {
	const check = "memory"
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return poor(check, statusWarn, "see sysinfo(2)", "%v", err)
	}
	total := uint64(info.Totalram) * uint64(info.Unit)
	if total < wantedMemory {
		return poor(check, statusWarn, "give the output that is kept less room: --memory, --retention", "%d MiB in all", total>>20)
	}
	return ok(check, "%d MiB in all", total>>20)
}

// inMemory tells whether a directory is on no disk.
func inMemory(dir string) bool {
	var fs unix.Statfs_t
	for ; ; dir = filepath.Dir(dir) {
		if err := unix.Statfs(dir, &fs); err == nil {
			return fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.RAMFS_MAGIC
		}
		if dir == "/" || dir == "." {
			return false
		}
	}
}
