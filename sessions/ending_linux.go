package sessions

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// signalAll sends a signal to every process of the set but one, and returns which they were.
func (s procSet) signalAll(sig syscall.Signal, but int) (reached []int) {
	reached = s.others(but)
	for _, pid := range reached {
		_ = unix.Kill(pid, sig)
	}
	return reached
}

// others are the living processes of the set but one.
func (s procSet) others(but int) []int {
	return slices.DeleteFunc(s.pids(), func(pid int) bool { return pid == but })
}

// endAll ends every process of the set but one: TERM, and KILL to what is left after
// grace. It returns when none is left, or false when some cannot be killed within limit.
func (s procSet) endAll(but int, grace, limit time.Duration) bool {
	start := time.Now()
	if grace > 0 {
		s.askToEnd(but, grace)
	}
	for {
		last := lastPID()
		killed := s.signalAll(unix.SIGKILL, but)
		if s.signalSince(last, unix.SIGKILL, but)+len(killed) == 0 {
			return true
		}
		if time.Since(start) > grace+limit {
			return false
		}
		awaitEnds(killed, time.Now().Add(killPause))
	}
}

// killPause is how long endAll waits for what it has killed before it looks again.
const killPause = 20 * time.Millisecond

// holdsOnly reports whether at most one process of the set lives.
func (s procSet) holdsOnly(pid int) bool {
	last := lastPID()
	return len(s.others(pid)) == 0 && s.signalSince(last, 0, pid) == 0
}

// signalSince sends a signal to the processes of the set that were started after the one of
// that number, until nothing more is started, and returns how many there were. What forks and
// exits, one after the other, is gone by the time a reading of /proc has come to it; it is
// overtaken by asking for nothing but the newest.
func (s procSet) signalSince(last int, sig syscall.Signal, but int) (n int) {
	for range maxChase {
		newest := lastPID()
		if newest == last {
			return n
		}
		if newest < last { // the numbers have begun anew
			return n + 1
		}
		for pid := last + 1; pid <= newest; pid++ {
			if pid != but && s.has(labelOf(pid)) && unix.Kill(pid, sig) == nil {
				n++
			}
		}
		last = newest
	}
	return n + 1
}

// maxChase is how often signalSince looks for new processes before all are read again.
const maxChase = 1000

// lastPID is that of the process or thread that was started last (proc(5), loadavg).
func lastPID() int {
	b, _ := readKernel("/proc/loadavg")
	f := bytes.Fields(b)
	if len(f) < 5 {
		return 0
	}
	pid, _ := strconv.Atoi(string(f[4]))
	return pid
}

// askToEnd sends TERM to every process of the set but one, and returns when all seem to have
// ended, or after grace.
func (s procSet) askToEnd(but int, grace time.Duration) {
	deadline := time.Now().Add(grace)
	left := s.signalAll(unix.SIGTERM, but)
	for _, pid := range left {
		_ = unix.Kill(pid, unix.SIGCONT)
	}
	for len(left) > 0 && awaitEnds(left, deadline) {
		left = s.others(but) // what they may have started meanwhile
	}
}

// awaitEnds returns when the processes have ended, or false at the deadline.
func awaitEnds(pids []int, deadline time.Time) bool {
	for _, pid := range pids {
		awaitEnd(pid, deadline)
	}
	return time.Now().Before(deadline)
}

// awaitEnd returns when the process has ended, or at the deadline. It need not be a child.
func awaitEnd(pid int, deadline time.Time) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	switch err {
	case nil:
		f := os.NewFile(uintptr(fd), "pidfd")
		defer f.Close()
		_ = f.SetReadDeadline(deadline)
		_ = onceReadable(f, func() bool {
			p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, err := unix.Poll(p, 0)
			return n > 0 || err != nil && err != unix.EINTR
		})
	case unix.ESRCH:
	default: // without pidfds
		for alive(pid) && time.Now().Before(deadline) {
			time.Sleep(2 * time.Millisecond)
		}
	}
}

// onceReadable blocks until ready says so, which is asked whenever the file may have become
// readable, without holding a thread.
func onceReadable(f *os.File, ready func() bool) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	return rc.Read(func(uintptr) bool { return ready() })
}

// waitProcess blocks until the child has ended, without holding a thread where the kernel
// has pidfds, and returns its status and the name it had at the end.
func waitProcess(pid int) (status syscall.WaitStatus, comm string) {
	if fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK); err == nil {
		f := os.NewFile(uintptr(fd), "pidfd")
		_ = onceReadable(f, func() bool {
			var info unix.Siginfo
			err := unix.Waitid(unix.P_PIDFD, fd, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
			return err != nil && err != unix.EAGAIN && err != unix.EINTR || err == nil && info.Signo != 0
		})
		defer f.Close()
	} else {
		for {
			var info unix.Siginfo
			if unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil) != unix.EINTR {
				break
			}
		}
	}
	if st, ok := readStat(pid); ok {
		comm = st.comm
	}
	for {
		if _, err := syscall.Wait4(pid, &status, 0, nil); err != syscall.EINTR {
			return status, comm
		}
	}
}
