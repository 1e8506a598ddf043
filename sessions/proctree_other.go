//go:build !linux

package sessions

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const fionread = 0x4004667f // FIONREAD of the BSDs and macOS, sys/filio.h

// A label tells processes apart on Linux. Elsewhere there is nothing of the kind, and only
// the shell's process group is known: what left it is not found.
type label uint64

const (
	wholeServer  label = 0
	wholeSession label = 0
	wholeRun     label = 0
)

func newLabel(server, session, run uint64) label { return 0 }

func (l label) attach(pid int) error { return nil }

type procSet struct {
	want, mask label
	census     *census
}

type census struct{}

func (s procSet) has(l label) bool { return false }

func labelOf(pid int) label { return 0 }

func cpuTime(pid int) (used time.Duration, known bool) { return 0, false }

type hitList map[int]string

type heldShell struct {
	pid     int
	comm    string
	leaving func() bool
}

func (hit hitList) interruptForeground(session, run procSet, shell heldShell, mayTrap bool) time.Time {
	_ = unix.Kill(-shell.pid, unix.SIGINT)
	return time.Now()
}

func (hit hitList) interruptMissed(session, run procSet, shell heldShell, last time.Time, mayTrap bool) time.Time {
	return time.Time{}
}

func (h heldShell) waitsForTurn() bool { return false }

func (hit hitList) gone(heldShell) bool { return false }

func (hit hitList) wasted(heldShell) bool { return false }

func (s procSet) signalAll(sig syscall.Signal, but int) []int { return nil }

func (s procSet) endAll(but int, grace, limit time.Duration) bool { return true }

func (s procSet) ignoreInterrupts(int) bool { return false }

func (s procSet) holdsOnly(int) bool { return false }

func (s procSet) askToEnd(but int, grace time.Duration) {}

type spin struct{ times int }

func forksOf(int, string) []int { return nil }

func spinOf(pid int) spin { return spin{} }

func reapedBy(int) int { return 0 }

func (s spin) goesNowhere(last spin) bool { return false }

func waitProcess(pid int) (status syscall.WaitStatus, comm string) {
	for {
		if _, err := syscall.Wait4(pid, &status, 0, nil); err != unix.EINTR {
			return status, ""
		}
	}
}

func workingDir(pid int) string { return "" }

func allowFiles(int) bool { return true }
