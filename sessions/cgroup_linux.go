package sessions

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A cgroup is one of version 2 that a session's processes live in, below one for the whole
// server, where the kernel, its mount and our rights allow it. Labels already tell which
// processes are whose; a cgroup adds that all of them are killed at once, so that not even
// one that forks faster than /proc can be read gets away (cgroups(7), cgroup.kill, Linux
// 5.14). No controller is used. nil is no cgroup, and every method takes it.
type cgroup struct {
	path  string
	procs *os.File // cgroup.procs, once holdsOnly has been called; for who has the session's turn
}

// newCgroup makes the server's, below the one this process is in. It is nil where that
// cannot be done, and why says so.
func newCgroup(serverID uint64) (g *cgroup, why error) {
	parent, err := ownCgroup()
	if err != nil {
		return nil, err
	}
	g = &cgroup{path: filepath.Join(parent, cgroupName(serverID))}
	if err := os.Mkdir(g.path, 0o755); err != nil {
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	if _, err := os.Stat(filepath.Join(g.path, "cgroup.kill")); err != nil {
		g.remove()
		return nil, fmt.Errorf("cgroups cannot be killed at once here: %w", err)
	}
	return g, nil
}

// ownCgroup is the directory of the cgroup this process is in.
func ownCgroup() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	in, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	return findCgroup(string(mounts), string(in))
}

// findCgroup reads a /proc/self/mountinfo and a /proc/self/cgroup (proc(5), cgroups(7)).
func findCgroup(mounts, in string) (string, error) {
	own, ok := "", false
	for line := range strings.Lines(in) {
		if path, found := strings.CutPrefix(strings.TrimSpace(line), "0::"); found {
			own, ok = path, true
		}
	}
	if !ok {
		return "", errors.New("this process is in no cgroup of version 2")
	}
	for line := range strings.Lines(mounts) {
		where, what, _ := strings.Cut(line, " - ")
		f := strings.Fields(where)
		if !strings.HasPrefix(what, "cgroup2 ") || len(f) < 5 {
			continue
		}
		// What is mounted may be a part of the hierarchy, and ours must lie in it.
		rel, err := filepath.Rel(f[3], own)
		if err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
			return filepath.Join(f[4], rel), nil
		}
	}
	return "", errors.New("no cgroup of version 2 is mounted that this process is in")
}

// child makes the cgroup of a session. It is nil where that fails: then labels must do.
func (g *cgroup) child(seq uint64) *cgroup {
	if g == nil {
		return nil
	}
	c := &cgroup{path: filepath.Join(g.path, strconv.FormatUint(seq, 10))}
	if err := os.Mkdir(c.path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil
	}
	return c
}

// place makes a process that is started with attr begin in the cgroup. done must be called
// when it has started.
func (g *cgroup) place(attr *syscall.SysProcAttr) (done func()) {
	if g == nil {
		return func() {}
	}
	dir, err := os.Open(g.path)
	if err != nil {
		return func() {}
	}
	attr.UseCgroupFD, attr.CgroupFD = true, int(dir.Fd())
	return func() { dir.Close() }
}

// unplace takes place back, where the kernel would not have it.
func unplace(attr *syscall.SysProcAttr) { attr.UseCgroupFD = false }

// kill kills everything in the cgroup and waits until nothing is, or limit is over.
func (g *cgroup) kill(limit time.Duration) {
	if g.empty() || os.WriteFile(filepath.Join(g.path, "cgroup.kill"), []byte("1"), 0) != nil {
		return
	}
	start := time.Now()
	for pause := time.Millisecond; !g.empty() && time.Since(start) < limit; pause = min(2*pause, 20*time.Millisecond) {
		time.Sleep(pause)
	}
}

// empty reports whether no process lives in it. No cgroup is empty.
func (g *cgroup) empty() bool {
	if g == nil {
		return true
	}
	b, err := readKernel(filepath.Join(g.path, "cgroup.events"))
	return err == nil && !bytes.Contains(b, []byte("populated 1"))
}

// holdsOnly reports whether the process is alone in the cgroup itself; those that somebody has
// made below it are not looked at.
func (g *cgroup) holdsOnly(pid int) bool {
	if g == nil {
		return false
	}
	if g.procs == nil {
		path := filepath.Join(g.path, "cgroup.procs")
		fd, err := openRetry(path, unix.O_RDONLY|unix.O_CLOEXEC)
		if err != nil {
			return false
		}
		g.procs = os.NewFile(uintptr(fd), path) // os.Open would have it polled
	}
	var b [32]byte
	n, _ := unix.Pread(int(g.procs.Fd()), b[:], 0)
	return string(b[:max(n, 0)]) == strconv.Itoa(pid)+"\n"
}

// rest closes what holdsOnly keeps open.
func (g *cgroup) rest() {
	if g != nil && g.procs != nil {
		g.procs.Close()
		g.procs = nil
	}
}

// remove removes the cgroup and those that were made below it. Nothing may live in them.
func (g *cgroup) remove() {
	if g == nil {
		return
	}
	g.rest()
	if unix.Rmdir(g.path) == nil { // as nearly always
		return
	}
	var dirs []string
	_ = filepath.WalkDir(g.path, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	for i := len(dirs) - 1; i >= 0; i-- {
		for range 50 { // the kernel may still be at it
			if err := unix.Rmdir(dirs[i]); err != unix.EBUSY {
				break
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
}
