package sessions

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// dirPrefix begins the names of private directories.
const dirPrefix = "tandem-"

// ownerFile is in every private directory. It holds the server's number and the path of its
// cgroup, and the server keeps it locked: where the lock can be had, that server is gone,
// however it went, and what it left can be told from its number.
const ownerFile = "owner"

// own marks a private directory as that of a living server. Closing the file ends that.
func own(dir string, serverID uint64, g *cgroup) (*os.File, error) {
	// It gets its name when it is locked: it is never there without.
	unlocked := filepath.Join(dir, ownerFile+".new")
	f, err := os.OpenFile(unlocked, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("mark private directory: %w", err)
	}
	_, err = fmt.Fprintf(f, "%d\n%s\n", serverID, g.dir())
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err == nil {
		err = os.Rename(unlocked, filepath.Join(dir, ownerFile))
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("mark private directory: %w", err)
	}
	return f, nil
}

// A leftover is what a server has left that is gone.
type leftover struct {
	dir      string
	serverID uint64
	cgroup   *cgroup
	lock     *os.File
}

// leftovers finds, beside a private directory, those of servers of this user that are gone.
// Their locks are held from then on.
func leftovers(parent string) (found []leftover) {
	dirs, _ := filepath.Glob(filepath.Join(parent, dirPrefix+"*"))
	for _, dir := range dirs {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() {
			continue
		}
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Getuid() {
			continue
		}
		if l, ok := claim(dir); ok {
			found = append(found, l)
		}
	}
	return found
}

func claim(dir string) (l leftover, ok bool) {
	f, err := os.OpenFile(filepath.Join(dir, ownerFile), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return l, false
	}
	defer func() {
		if !ok {
			f.Close()
		}
	}()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return l, false
	}
	b := make([]byte, 8<<10)
	n, _ := f.Read(b)
	first, rest, _ := strings.Cut(string(b[:n]), "\n")
	id, err := strconv.ParseUint(first, 10, 64)
	if err != nil {
		return l, false
	}
	path, _, _ := strings.Cut(rest, "\n")
	return leftover{dir: dir, serverID: id, cgroup: serversCgroup(path, id), lock: f}, true
}

// serversCgroup takes a path only for that of the server's cgroup if it can be that.
func serversCgroup(path string, serverID uint64) *cgroup {
	if filepath.Base(path) != cgroupName(serverID) {
		return nil
	}
	return &cgroup{path: path}
}

func cgroupName(serverID uint64) string { return "tandem-" + strconv.FormatUint(serverID, 16) }

// dir is where the cgroup is, "" without one.
func (g *cgroup) dir() string {
	if g == nil {
		return ""
	}
	return g.path
}

// end ends the processes of a server that is gone and removes its directory. It reports
// false where some cannot be killed.
func (l leftover) end() (ended bool, err error) {
	l.cgroup.kill(killLimit)
	ended = procSet{newLabel(l.serverID, 0, 0), wholeServer, nil}.endAll(os.Getpid(), 0, killLimit)
	l.cgroup.remove()
	return ended, os.RemoveAll(l.dir)
}

// sweep ends what servers left that were killed together with their guardians.
func (m *Manager) sweep() {
	for _, l := range leftovers(filepath.Dir(m.dir)) {
		ended, err := l.end()
		m.log.Warn("swept what a server has left that is gone", "dir", l.dir, "processes_ended", ended, "error", err)
		l.lock.Close()
	}
}
