package sessions

import (
	"bytes"
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A hitList is what an interrupt has reached, by process.
type hitList map[int]hit

// A hit is what a process was when it was reached.
type hit struct {
	comm  string // its name, empty if that is not known
	early bool   // it was not yet what it is to be, and the shell waited for it
}

// interruptForeground sends SIGINT to the shell and to what the run has started in its
// process group, but for what is on the list already and is what it was then: at one go where
// that leaves nothing out of the group, and one by one where jobs of earlier runs are in it.
// Those ignore SIGINT, but not before they have come that far, and not if they chose to handle
// it. It adds them to the list. A shell that is leaving is let go: it would not tell its state.
//
// The shell gets another where it is seen to throw one away: see lost. It returns when the last
// was sent, which is a while ago on a busy machine, or zero.
func (l hitList) interruptForeground(session, run procSet, shell heldShell, mayTrap bool) (sent time.Time) {
	for began := time.Now(); ; {
		sent, lost := l.interruptOnce(session, run, shell, mayTrap)
		if !lost || time.Since(began) >= spoilLimit {
			return sent
		}
		time.Sleep(rand.N(holdEvery))
	}
}

func (l hitList) interruptOnce(session, run procSet, shell heldShell, mayTrap bool) (sent time.Time, lost bool) {
	var before foreground
	if len(l) == 0 {
		before = foregroundOf(session, run, shell.pid)
	}
	waits, mortal, children := shell.hold()
	defer shell.goOn()
	if shell.leaving() {
		return time.Time{}, false
	}
	sent = time.Now()
	if len(l) == 0 && !before.others {
		_ = unix.Kill(-shell.pid, unix.SIGINT)
		before.goOn()
		lost = shell.lost(waits, mortal, mayTrap)
		for pid, was := range children {
			l[pid] = hit{comm: was.comm} // what has ended of it was not too early
		}
		for pid := range foregroundOf(session, run, shell.pid).mine { // its name may be another already
			l[pid] = cmp.Or(children[pid], before.mine[pid])
		}
		return sent, lost
	}
	maps.DeleteFunc(children, func(pid int, _ hit) bool { return !run.has(labelOf(pid)) })
	l.add(children)
	_ = unix.Kill(shell.pid, unix.SIGINT)
	l[shell.pid] = hit{comm: shell.comm}
	after := foregroundOf(session, run, shell.pid)
	l.add(after.mine)
	after.goOn()
	return sent, shell.lost(waits, mortal, mayTrap)
}

// A foreground is what is in a shell's process group.
type foreground struct {
	mine    hitList // the shell and what the run has started
	stopped []int   // of those, what would not even notice an interrupt
	others  bool    // whether there is anything else
}

func foregroundOf(session, run procSet, shell int) (f foreground) {
	f.mine = hitList{}
	for _, pid := range session.pids() {
		if st, ok := readStat(pid); !ok || st.pgid != shell {
			continue
		} else if pid != shell && !run.has(labelOf(pid)) {
			f.others = true
		} else if f.mine[pid] = (hit{comm: st.comm}); st.state == 'T' && pid != shell && takesInterrupt(pid) {
			f.stopped = append(f.stopped, pid)
		}
	}
	return f
}

// goOn wakes what is stopped.
func (f foreground) goOn() {
	for _, pid := range f.stopped {
		_ = unix.Kill(pid, unix.SIGCONT)
	}
}

// A heldShell is a shell that can be kept still: what is in its foreground is then still there
// when it has been found, and it sees no child die of a SIGINT that it did not get itself, upon
// which it would go on to the next command.
type heldShell struct {
	pid     int
	comm    string      // the name it has
	leaving func() bool // asked while it stands still: it has said that it is about to exit
}

const (
	// How long a shell may get on while one looks for a moment at which it takes an interrupt, where
	// it would be spoilt by it, where it is sure to lose it, and where it may; it goes on for up to
	// holdEvery at a time, and longer and longer. However busy the machine is, it ends after
	// spoilLimit; a turn on a processor is waited for no longer than turnLimit.
	spoilLimit  = time.Second
	loseLimit   = 30 * time.Millisecond
	unsureLimit = 6 * time.Millisecond
	holdEvery   = 500 * time.Microsecond
	turnLimit   = 200 * time.Millisecond
	stopCost    = 50 * time.Microsecond

	// freshLimit is for how long a child has had a processor, at most, that is not yet what it is to
	// be. A tenth of that is usual, but a shell may be large.
	freshLimit = 5 * time.Millisecond

	// stopLimit is how long a shell may take to stop, dieLimit what is interrupted to end for it
	// to be seen.
	stopLimit = time.Second
	dieLimit  = 20 * time.Millisecond
	pollEvery = 50 * time.Microsecond
)

// hold stops the shell where a SIGINT is not lost on it, as far as that can be had, and returns
// its children in its process group. Waits says that it waits for a command there and that no child
// would do anything with SIGINT but end. Mortal are the children that SIGINT is sure to end, or
// would have been, where all others ignore it, as what runs in the background does: so it is one of
// them that the shell waits for. A SIGCONT trap of the user's runs each time it goes on.
func (h heldShell) hold() (waits bool, mortal []int, children hitList) {
	var fresh []int
	var had time.Duration
	for end := time.Now().Add(spoilLimit); ; {
		st, ok := readStat(h.pid)
		stopped := ok && st.state == 'T' // by somebody else: it must not go on without the interrupt
		_ = unix.Kill(h.pid, unix.SIGSTOP)
		at, now := h.moment()
		limit := at.better(now)
		if mortal = nil; at == stageWait {
			var sure bool
			if mortal, sure = h.mortal(); sure && len(mortal) == 0 {
				limit = max(limit, unsureLimit) // what it waited for may have been there until now
			}
		}
		if at == stageWait && slices.ContainsFunc(now.fresh, func(pid int) bool { return slices.Contains(fresh, pid) }) {
			limit = spoilLimit // it waits for a processor
		}
		fresh = now.fresh
		if stopped || had >= limit || time.Now().After(end) {
			for pid, c := range now.group {
				now.group[pid] = hit{c.comm, c.early && at == stageWait}
			}
			return at == stageWait && !h.anyCopes(), mortal, now.group
		}
		step := rand.N(holdEvery + had/8)
		h.goOnFor(step)
		had += step
	}
}

// goOnFor lets a shell go on for a while, and until it has had a processor for longer than it takes
// to stop: else it might be stopped again and again where it is.
func (h heldShell) goOnFor(step time.Duration) {
	before, known := cpuTime(h.pid)
	h.goOn()
	time.Sleep(step)
	poll(turnLimit, func() bool {
		st, ok := readStat(h.pid)
		used, _ := cpuTime(h.pid)
		return !known || !ok || st.state != 'R' || used-before >= stopCost
	})
}

func (h heldShell) goOn() { _ = unix.Kill(h.pid, unix.SIGCONT) }

// moment tells where a shell has been stopped, and what it has of children.
func (h heldShell) moment() (at stage, now offspring) {
	poll(stopLimit, func() bool {
		st, ok := readStat(h.pid)
		return !ok || st.state != 'R' && st.state != 'S'
	})
	return h.stage(), h.children()
}

// better is how long it is worth to look for a better moment for an interrupt.
//
// Bash waits for a command with SIGCHLD blocked. Right after it has put its handler of SIGINT in
// place for that, and before it has noted the one to restore, the handler sends itself the signal
// for ever. Once the command has ended by itself, while bash is still in wait4, it takes the signal
// for one that the command has coped with. While it starts a command, with SIGINT blocked, the
// command may not be there yet to be interrupted. And a child that is not yet what it is to be
// handles the signal as a shell does, to no effect, or goes on as a shell; but it may as well be a
// subshell at work.
func (at stage) better(now offspring) time.Duration {
	waits := at == stageWait
	switch {
	case at == stageHandler:
		return spoilLimit
	case at == stageBusy, waits && (now.all == 0 || now.ended > 0):
		return loseLimit
	case waits && now.forked > 0:
		return unsureLimit
	case at == stageFork, now.forked > 0:
		return unsureLimit / 2
	}
	return 0
}

// lost reports whether a shell that waited for a command when it was sent an interrupt will throw
// it away: there is nothing left of the command, and it has not died of that. Where the shell may
// have a trap, which would run twice if that were wrong, it must be sure: in the wait builtin it
// looks the same when no child lives, and a child that dies of it late has to be given time to get
// a processor.
func (h heldShell) lost(waits bool, mortal []int, mayTrap bool) bool {
	var now offspring
	over := func() bool { now = h.children(); return now.busy == 0 }
	if poll(dieLimit, over); mayTrap && now.busy > 0 && h.anyHasYetTo() {
		poll(turnLimit, func() bool { return !h.anyHasYetTo() })
		poll(dieLimit, over)
	}
	if len(mortal) > 0 {
		return !slices.ContainsFunc(mortal, func(pid int) bool { return !endedOtherwise(pid) })
	}
	return waits && !mayTrap && now.all > 0 && now.ended == now.all && now.interrupted == 0
}

// endedOtherwise reports whether a child that nobody has waited for yet has ended, and not of SIGINT.
func endedOtherwise(pid int) bool {
	st, ok := readStat(pid)
	return ok && st.state == 'Z' && !(st.died.Signaled() && st.died.Signal() == syscall.SIGINT)
}

// anyHasYetTo reports whether any child has a SIGINT that it has not come to act upon.
func (h heldShell) anyHasYetTo() bool {
	return slices.ContainsFunc(childrenOf(h.pid), func(pid int) bool { return hasSignal(pid, "ShdPnd:", syscall.SIGINT) })
}

// anyCopes reports whether any child ignores SIGINT, or has a handler of its own, or whether that
// cannot be told. If such a child ends, it need not be by itself.
func (h heldShell) anyCopes() bool {
	return slices.ContainsFunc(childrenOf(h.pid), func(pid int) bool {
		return alive(pid) && (labelOf(pid) == 0 || hasSignal(pid, "SigIgn:", syscall.SIGINT) ||
			hasSignal(pid, "SigCgt:", syscall.SIGINT) && !h.forked(pid))
	})
}

// mortal are the children, also those that have ended, on which SIGINT has its default effect; sure
// says that all others ignore it. A subshell may have a trap.
func (h heldShell) mortal() (pids []int, sure bool) {
	for _, pid := range childrenOf(h.pid) {
		status, err := readKernel("/proc/" + strconv.Itoa(pid) + "/status")
		switch {
		case err != nil, inSet(status, "SigCgt:", syscall.SIGINT):
			return nil, false
		case !inSet(status, "SigIgn:", syscall.SIGINT):
			pids = append(pids, pid)
		}
	}
	return pids, true
}

// forked reports whether a child is a copy of the shell.
func (h heldShell) forked(pid int) bool {
	own, err := readKernel("/proc/" + strconv.Itoa(h.pid) + "/cmdline")
	child, err2 := readKernel("/proc/" + strconv.Itoa(pid) + "/cmdline")
	return err == nil && err2 == nil && bytes.Equal(own, child)
}

// A stage is how far a shell has come with a command, as far as it matters here.
type stage int

const (
	stageNone    stage = iota
	stageFork          // starts it
	stageHandler       // sets what SIGINT does while it waits for it
	stageBusy          // may have done so just now; or is at work in a trap that it runs there
	stageWait          // waits for it
)

// stage tells how far the shell had come when it was stopped. Under job control it sets no handler,
// and waits in another way.
func (h heldShell) stage() stage {
	dir := "/proc/" + strconv.Itoa(h.pid)
	status, err := readKernel(dir + "/status")
	if st, ok := readStat(h.pid); err != nil || !ok || st.comm != h.comm || !inSet(status, "SigBlk:", syscall.SIGCHLD) {
		return stageNone
	}
	if inSet(status, "SigBlk:", syscall.SIGINT) {
		return stageFork
	}
	line, err := readKernel(dir + "/syscall") // the call's number, or -1, and arguments
	if err != nil {
		return stageNone
	}
	f := append(bytes.Fields(line), nil, nil, nil, nil)
	switch call := string(f[0]); {
	case call == "-1":
		return stageBusy
	case call == strconv.Itoa(unix.SYS_WAIT4) && string(f[3]) == "0x0": // no WNOHANG, no WUNTRACED
		return stageWait
	case call == strconv.Itoa(unix.SYS_RT_SIGACTION) && string(f[1]) == "0x2":
		return stageHandler
	}
	return stageNone
}

// An offspring is what a shell has of children.
type offspring struct {
	group       hitList // those in its process group that have not ended
	all         int
	forked      int   // those at work that are copies of the shell
	fresh       []int // of these, those that have hardly begun
	busy        int   // those at work
	ended       int
	interrupted int // those ended by SIGINT
}

func (h heldShell) children() (c offspring) {
	c.group = hitList{}
	_, known := cpuTime(h.pid) // a child may have had none yet
	for _, pid := range childrenOf(h.pid) {
		st, ok := readStat(pid)
		c.all++
		if !ok || st.state == 'Z' || st.state == 'X' {
			c.ended++
			if st.died.Signaled() && st.died.Signal() == syscall.SIGINT {
				c.interrupted++
			}
			continue
		}
		early := false
		if st.state == 'R' || st.state == 'D' {
			c.busy++
			if early = st.comm == h.comm && h.forked(pid); early {
				c.forked++
				if used, _ := cpuTime(pid); known && used < freshLimit {
					c.fresh = append(c.fresh, pid)
				}
			}
		}
		if st.pgid == h.pid {
			c.group[pid] = hit{st.comm, early}
		}
	}
	return c
}

// waitsForTurn reports whether the shell would do something if it were given a processor, or a
// child that has hardly begun, or has just ended.
func (h heldShell) waitsForTurn() bool {
	waits := func(pid int) bool {
		st, ok := readStat(pid)
		used, _ := cpuTime(pid)
		return ok && (st.state == 'Z' || (st.state == 'R' || st.state == 'D') && (pid == h.pid || used < freshLimit))
	}
	return waits(h.pid) || slices.ContainsFunc(childrenOf(h.pid), waits)
}

// poll returns once cond holds, or after limit.
func poll(limit time.Duration, cond func() bool) {
	for end := time.Now().Add(limit); !cond() && time.Now().Before(end); {
		time.Sleep(pollEvery)
	}
}

// add sends SIGINT to what is in the foreground and not on the list yet as what it is, and adds
// it: the last of a pipeline first, or it would end by itself once the one before it has.
func (l hitList) add(foreground hitList) {
	for _, pid := range slices.Backward(slices.Sorted(maps.Keys(foreground))) {
		if now := foreground[pid]; l[pid].comm != now.comm {
			_ = unix.Kill(pid, unix.SIGINT)
			l[pid] = now
		}
	}
}

// interruptMissed sends SIGINT to what the run has in the foreground and an interrupt has
// not reached: what was only just being started, and of what is outside the shell's process
// group (under set -m a job has its own, setsid makes one) the newest group; but, where it has
// reached anything beside the shell, nothing that was started more than reachLimit after the last
// one was sent. It adds those to the list, and returns when it has sent another, zero where there
// was nothing to be reached.
//
// The shell gets the signal again too: the one before it may have lost. But not where it may
// have a trap, which would be set off again; and then what is new in its own group may be what
// the trap has started, to clean up, and is left alone if the interrupt reached anything that the
// trap may have been set off by: but for what it reached too early, which the shell waits for yet.
func (l hitList) interruptMissed(session, run procSet, shell heldShell, last time.Time, mayTrap bool) (sent time.Time) {
	reach := ticksAt(last.Add(reachLimit))
	newest := 0
	missed := map[int]hitList{}
	for _, pid := range run.pids() {
		st, ok := readStat(pid)
		late := len(l) > 1 && st.start > reach
		if !ok || l[pid].comm == st.comm || pid == shell.pid || late || !takesInterrupt(pid) {
			continue
		}
		if missed[st.pgid] == nil {
			missed[st.pgid] = hitList{}
		}
		missed[st.pgid][pid] = hit{comm: st.comm}
		if st.pgid != shell.pid {
			newest = max(newest, st.pgid)
		}
	}
	if mayTrap && len(l) > 1 {
		maps.DeleteFunc(missed[shell.pid], func(pid int, _ hit) bool { return !l[pid].early })
	}
	if len(missed[newest])+len(missed[shell.pid]) == 0 {
		return time.Time{}
	}
	if newest == 0 && !mayTrap {
		return l.interruptForeground(session, run, shell, false)
	}
	shell.hold()
	defer shell.goOn()
	if shell.leaving() {
		return time.Time{}
	}
	sent = time.Now()
	if !mayTrap {
		_ = unix.Kill(shell.pid, unix.SIGINT)
	}
	l.add(missed[newest])
	l.add(missed[shell.pid])
	return sent
}

// gone reports whether all that an interrupt has reached beside the shell is gone.
func (l hitList) gone(shell heldShell) bool {
	for pid := range l {
		if pid != shell.pid && alive(pid) {
			return false
		}
	}
	return true
}

// wasted reports whether all of that is gone, and some of it may have thrown the signal away, upon
// which bash goes on as if there had been none, whether it has a trap or not.
func (l hitList) wasted(shell heldShell) bool {
	for _, was := range l {
		if was.early {
			return l.gone(shell)
		}
	}
	return false
}
