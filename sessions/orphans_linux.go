package sessions

import (
	"bytes"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// adoptOrphans makes this process the parent of every orphan among its descendants, and
// returns a channel that says when a child has ended. Neither a double fork nor a parent
// that is killed then takes a process away from it, and none stays a zombie because whatever
// is process 1 here does not reap.
func (c *children) adoptOrphans() (ended chan os.Signal, err error) {
	c.strangers = map[int]bool{}
	for _, pid := range childPids() {
		c.strangers[pid] = !c.has(pid)
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, err
	}
	ended = make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	return ended, nil
}

func stopAdopting(ended chan os.Signal) {
	signal.Stop(ended)
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
}

// bury reaps the adopted ones that have ended. Mostly it was a shell that did, and has been
// waited for by now: then there is nothing to look for.
func (c *children) bury() {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	if err == nil && info.Signo != 0 || err == unix.EINTR {
		c.reapOrphans()
	}
}

// reapOrphans reaps the adopted ones that have ended, and returns those that have not.
func (c *children) reapOrphans() (alive []int) {
	c.starting.Lock()
	defer c.starting.Unlock()
	for _, pid := range childPids() {
		if c.has(pid) {
			continue
		}
		got, err := syscall.Wait4(pid, nil, unix.WNOHANG, nil)
		switch {
		case err != nil:
		case got == pid:
			delete(c.strangers, pid)
		case !c.strangers[pid]:
			alive = append(alive, pid)
		}
	}
	return alive
}

// endOrphans ends the adopted ones, and what they leave, until none is left or limit is over.
func (c *children) endOrphans(limit time.Duration) (ended bool) {
	start := time.Now()
	for pause := time.Duration(0); ; pause = min(pause+time.Millisecond, 20*time.Millisecond) {
		alive := c.reapOrphans()
		if len(alive) == 0 {
			return true
		}
		if time.Since(start) > limit {
			return false
		}
		for _, pid := range alive {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		time.Sleep(pause)
	}
}

// childPids are the children of all threads of this process.
func childPids() (pids []int) {
	eachName("/proc/self/task", make([]byte, dirBuffer), func(thread []byte) {
		b, _ := readKernel("/proc/self/task/" + string(thread) + "/children")
		for _, f := range bytes.Fields(b) {
			pids = append(pids, number(f))
		}
	})
	return pids
}
