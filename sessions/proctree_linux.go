package sessions

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const fionread = unix.TIOCINQ

// Processes are told apart by a label that the kernel passes from a process to all it
// starts: the soft limit RLIMIT_RTTIME, set on a session's shell from outside before it
// gets its first command, and set anew before each run. No double fork, setsid, closed
// descriptor or cleared environment takes it off, and nothing else does in practice; as a
// limit on real-time CPU its values, above 2^62 microseconds, never bind (getrlimit(2)).
// Where a process took it off all the same, it is still found as a descendant of one that
// has it.
//
// From the top: a bit that is always set, 21 bits of the server, 20 of the session and 21
// of the run.
type label uint64

const (
	labelMark    label = 1 << 62
	serverBits         = 21
	sessionBits        = 20
	runBits            = 21
	serverShift        = sessionBits + runBits
	serverMask   label = (1<<serverBits - 1) << serverShift
	sessionMask  label = (1<<sessionBits - 1) << runBits
	runMask      label = 1<<runBits - 1
	wholeServer        = labelMark | serverMask
	wholeSession       = wholeServer | sessionMask
	wholeRun           = wholeSession | runMask
)

func newLabel(server, session, run uint64) label {
	return labelMark | label(server)<<serverShift&serverMask | label(session)<<runBits&sessionMask | label(run)&runMask
}

// A procSet names processes by their label: those whose label equals want in the bits of
// mask, and what descends from them. They are found by way of a census, if there is one.
type procSet struct {
	want, mask label
	census     *census
}

func (s procSet) has(l label) bool { return l&s.mask == s.want&s.mask }

// attach gives a process its label.
func (l label) attach(pid int) error {
	lim := unix.Rlimit{Cur: uint64(l), Max: unix.RLIM_INFINITY}
	err := unix.Prlimit(pid, unix.RLIMIT_RTTIME, &lim, nil)
	if errors.Is(err, unix.EPERM) { // a hard limit is in force and may not be raised
		var old unix.Rlimit
		if err = unix.Prlimit(pid, unix.RLIMIT_RTTIME, nil, &old); err == nil {
			lim.Max = old.Max
			err = unix.Prlimit(pid, unix.RLIMIT_RTTIME, &lim, nil)
		}
	}
	return err
}

func labelOf(pid int) label {
	var lim unix.Rlimit
	if unix.Prlimit(pid, unix.RLIMIT_RTTIME, nil, &lim) != nil {
		return 0
	}
	if l := label(lim.Cur); l>>62 == 1 {
		return l
	}
	return 0
}

// pids returns the living processes of the set, zombies left out.
func (s procSet) pids() []int {
	var found []int
	seen := map[int]bool{}
	for _, p := range s.census.take().found {
		if s.has(p.label) {
			found = s.addWithChildren(found, seen, p.pid)
		}
	}
	return found
}

func (s procSet) addWithChildren(found []int, seen map[int]bool, pid int) []int {
	if seen[pid] || pid == os.Getpid() {
		return found
	}
	seen[pid] = true
	if !alive(pid) {
		return found
	}
	found = append(found, pid)
	for _, child := range childrenOf(pid) {
		// A child with a label of ours that is not of this set is another run's.
		if labelOf(child)&wholeServer != s.want&wholeServer {
			found = s.addWithChildren(found, seen, child)
		}
	}
	return found
}

// alive reports whether a process has not ended; one that has may still be there.
func alive(pid int) bool {
	st, ok := readStat(pid)
	return ok && st.state != 'Z' && st.state != 'X'
}

type procStat struct {
	comm  string
	state byte
	ppid  int
	pgid  int
	start int64              // when it was started, in ticks since the machine was
	died  syscall.WaitStatus // of what has ended and was not waited for
}

// Where the start and the status stand, counted from the state, proc(5)'s field 3.
const (
	startTime = 22 - 3
	exitCode  = 52 - 3
)

// ticks are how many of proc(5)'s clock ticks there are in a second, on every machine.
const ticks = 100

// ticksAt is how many ticks the machine has been up for at a time, which must not be long ago.
func ticksAt(t time.Time) int64 {
	var up unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &up)
	return int64((time.Duration(up.Nano()) - time.Since(t)) * ticks / time.Second)
}

// cpuTime is how long a process has had a processor, where the kernel tells: one that is built or
// set to keep no such account says 0. See Documentation/scheduler/sched-stats of Linux for
// /proc/PID/schedstat.
func cpuTime(pid int) (used time.Duration, known bool) {
	b, err := readKernel("/proc/" + strconv.Itoa(pid) + "/schedstat")
	if err != nil {
		return 0, false
	}
	field, _, _ := bytes.Cut(b, []byte(" "))
	ns, err := strconv.ParseInt(string(field), 10, 64)
	return time.Duration(ns), err == nil && ns > 0
}

func readStat(pid int) (st procStat, ok bool) {
	b, err := readKernel("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return st, false
	}
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return st, false
	}
	f := bytes.Fields(b[end+1:])
	if len(f) < 3 {
		return st, false
	}
	st.comm, st.state = string(b[open+1:end]), f[0][0]
	st.ppid, _ = strconv.Atoi(string(f[1]))
	st.pgid, _ = strconv.Atoi(string(f[2]))
	if len(f) > startTime {
		st.start, _ = strconv.ParseInt(string(f[startTime]), 10, 64)
	}
	if len(f) > exitCode {
		died, _ := strconv.Atoi(string(f[exitCode]))
		st.died = syscall.WaitStatus(died)
	}
	return st, true
}

// reapedBy is a measure of the children that a process has waited for: the pages they have
// touched, and one.
func reapedBy(pid int) int {
	b, err := readKernel("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:]) // from the state, proc(5)'s field 3, on
	if len(f) < 9 {
		return 0
	}
	faults, _ := strconv.Atoi(string(f[8]))
	return faults + 1
}

// childrenOf are the children of a process, those that have ended and were not waited for
// included.
func childrenOf(pid int) (children []int) {
	self := strconv.Itoa(pid)
	b, _ := readKernel("/proc/" + self + "/task/" + self + "/children")
	for _, word := range bytes.Fields(b) {
		if child, err := strconv.Atoi(string(word)); err == nil {
			children = append(children, child)
		}
	}
	return children
}

// forksOf are the children of a process that have the given name.
func forksOf(pid int, comm string) (forks []int) {
	for _, child := range childrenOf(pid) {
		if st, ok := readStat(child); ok && st.comm == comm {
			forks = append(forks, child)
		}
	}
	return forks
}

// A spin is what tells a process that only ever handles a signal from one that gets on: it is
// at its handler of SIGINT, which blocks the signal, or about to be, uses the processor and
// touches no new page. Shells block SIGINT while they fork too, but each fork makes pages to copy.
type spin struct {
	handling bool
	faults   int
	cpuTicks int
	times    int // how often in a row it went nowhere
}

func spinOf(pid int) spin {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := readKernel(dir + "/stat")
	if err != nil {
		return spin{}
	}
	status, err := readKernel(dir + "/status")
	if err != nil {
		return spin{}
	}
	return parseSpin(stat, status)
}

// parseSpin takes what proc(5) calls stat and status.
func parseSpin(stat, status []byte) (s spin) {
	f := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]) // from the state, stat's field 3, on
	if len(f) < 13 {
		return s
	}
	s.handling = inSet(status, "SigBlk:", syscall.SIGINT) || inSet(status, "ShdPnd:", syscall.SIGINT)
	s.faults, _ = strconv.Atoi(string(f[7]))
	user, _ := strconv.Atoi(string(f[11]))
	system, _ := strconv.Atoi(string(f[12]))
	s.cpuTicks = user + system
	return s
}

// goesNowhere compares a process with what it was a while ago.
func (s spin) goesNowhere(last spin) bool {
	return s.handling && last.handling && s.faults == last.faults && s.cpuTicks > last.cpuTicks
}

// takesInterrupt reports whether SIGINT would reach the process: neither ignored nor
// blocked, as bash makes it for the background jobs of a shell without job control.
func takesInterrupt(pid int) bool {
	return !hasSignal(pid, "SigBlk:", syscall.SIGINT) && !hasSignal(pid, "SigIgn:", syscall.SIGINT)
}

// ignoreInterrupts reports whether all of the processes but one ignore SIGINT. One that blocks
// it may be waiting for it.
func (s procSet) ignoreInterrupts(but int) bool {
	return !slices.ContainsFunc(s.pids(), func(pid int) bool { return pid != but && !hasSignal(pid, "SigIgn:", syscall.SIGINT) })
}

// hasSignal reports whether a signal is in one of the sets that /proc/PID/status shows. Of a
// process that is gone, every signal is in every set.
func hasSignal(pid int, set string, sig syscall.Signal) bool {
	status, err := readKernel("/proc/" + strconv.Itoa(pid) + "/status")
	return err != nil || inSet(status, set, sig)
}

func inSet(status []byte, set string, sig syscall.Signal) bool {
	_, rest, found := bytes.Cut(status, []byte("\n"+set))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	mask, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 64)
	return found && err == nil && mask&(1<<(sig-1)) != 0
}

// workingDir is where a process is.
func workingDir(pid int) string {
	dir, _ := os.Readlink("/proc/" + strconv.Itoa(pid) + "/cwd")
	return dir
}

// leastFiles is how many descriptors a shell must be allowed to redirect a run's output: bash
// moves what it had there to 10 and up.
const leastFiles = 16

// fewestFiles is the limit below which a shell reads no code that it is told to, and says
// nothing of that but a failure.
const fewestFiles = 7

// allowFiles raises a shell's limit of descriptors to what a run needs, as far as we may, and
// reports whether that is enough for a run.
func allowFiles(pid int) (enough bool) {
	var lim unix.Rlimit
	if unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &lim) != nil || lim.Cur >= leastFiles {
		return true
	}
	raised := unix.Rlimit{Cur: leastFiles, Max: max(lim.Max, leastFiles)}
	return unix.Prlimit(pid, unix.RLIMIT_NOFILE, &raised, nil) == nil || lim.Cur >= fewestFiles
}
