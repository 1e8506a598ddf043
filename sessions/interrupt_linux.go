package sessions

import (
	"bytes"
	"cmp"
	"maps"
	"math/rand/v2"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A hitList is what an interrupt has reached and that has not ended of it: by process, its
// name at that moment.
type hitList map[int]string

// interruptForeground sends SIGINT to the shell and to what the run has started in its
// process group, but for what is on the list already and is what it was then: at one go where
// that leaves nothing out of the group, and one by one where jobs of earlier runs are in it.
// Those ignore SIGINT, but not before they have come that far, and not if they chose to handle
// it. It adds them to the list.
//
// The shell gets another where it is seen to throw one away. Bash does so even if it has a trap.
func (hit hitList) interruptForeground(session, run procSet, shell heldShell) {
	for began := time.Now(); hit.interruptOnce(session, run, shell) && time.Since(began) < loseLimit; {
		time.Sleep(rand.N(holdEvery))
	}
}

func (hit hitList) interruptOnce(session, run procSet, shell heldShell) (lost bool) {
	before := foregroundOf(session, run, shell.pid)
	waits, children := shell.hold()
	defer shell.goOn()
	if len(hit) == 0 && !before.others {
		_ = unix.Kill(-shell.pid, unix.SIGINT)
		after := foregroundOf(session, run, shell.pid)
		after.goOn()
		for pid := range after.mine { // its name may be another already
			hit[pid] = cmp.Or(children[pid], before.mine[pid])
		}
		return waits && shell.lost()
	}
	_ = unix.Kill(shell.pid, unix.SIGINT)
	hit[shell.pid] = shell.comm
	maps.DeleteFunc(children, func(pid int, _ string) bool { return !run.has(labelOf(pid)) })
	hit.add(children)
	after := foregroundOf(session, run, shell.pid)
	hit.add(after.mine)
	after.goOn()
	return waits && shell.lost()
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
		} else if f.mine[pid] = st.comm; st.state == 'T' && pid != shell && takesInterrupt(pid) {
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
// which it would go on to the next command. Comm is the name it has.
type heldShell struct {
	pid  int
	comm string
}

const (
	// How long to look for a moment at which bash takes an interrupt, where it would be spoilt
	// by it, where it is sure to lose it, and where it may. It goes on for holdEvery meanwhile.
	spoilLimit  = time.Second
	loseLimit   = 150 * time.Millisecond
	unsureLimit = 30 * time.Millisecond
	holdEvery   = 500 * time.Microsecond

	// dieLimit is how long what is interrupted may take to end for it to be seen.
	dieLimit  = 20 * time.Millisecond
	pollEvery = 50 * time.Microsecond
)

// hold stops the shell where a SIGINT is not lost on it, as far as that can be had, and reports
// whether it waits for a command there, and its children in its process group.
func (h heldShell) hold() (waits bool, children hitList) {
	for began := time.Now(); ; {
		_ = unix.Kill(h.pid, unix.SIGSTOP)
		waits, now, better := h.moment()
		spent := time.Since(began)
		if spent >= better {
			return waits, now.names
		}
		h.goOn()
		time.Sleep(rand.N(holdEvery + spent/8)) // longer and longer, for want of a processor
	}
}

func (h heldShell) goOn() { _ = unix.Kill(h.pid, unix.SIGCONT) }

// moment tells whether a shell has been stopped where it waits for a command, what it has of
// children, and how long it is worth to look for a better moment for an interrupt.
//
// Bash waits for a command with SIGCHLD blocked. Right after it has put its handler of SIGINT in
// place for that, and before it has noted the one to restore, the handler sends itself the signal
// for ever. Once the command has ended by itself, while bash is still in wait4, it takes the signal
// for one that the command has coped with. While it starts a command, with SIGINT blocked, the
// command may not be there yet to be interrupted. And a child that is not yet what it is to be
// handles the signal as a shell does, to no effect, or goes on as a shell; but it may as well be a
// subshell at work.
func (h heldShell) moment() (waits bool, now offspring, better time.Duration) {
	poll(spoilLimit, func() bool {
		st, ok := readStat(h.pid)
		return !ok || st.state != 'R' && st.state != 'S'
	})
	at := h.stage()
	waits, now = at == stageWait, h.children()
	switch {
	case at == stageHandler:
		better = spoilLimit
	case waits && (now.all == 0 || now.ended > 0):
		better = loseLimit
	case waits && now.forked > 0:
		better = unsureLimit
	case at == stageFork, now.forked > 0:
		better = unsureLimit / 2
	}
	return waits, now, better
}

// lost reports whether a shell that waited for a command when it was sent an interrupt will throw
// it away: there is nothing left of the command, and it has not died of that.
func (h heldShell) lost() bool {
	var now offspring
	poll(dieLimit, func() bool { now = h.children(); return now.busy == 0 })
	return now.all > 0 && now.ended == now.all && now.interrupted == 0
}

// A stage is how far a shell has come with a command, as far as it matters here.
type stage int

const (
	stageNone    stage = iota
	stageFork          // starts it
	stageHandler       // may be setting what SIGINT does while it waits for it
	stageWait          // waits for it
)

// stage tells how far the shell had come when it was stopped.
func (h heldShell) stage() stage {
	dir := "/proc/" + strconv.Itoa(h.pid)
	status, err := readKernel(dir + "/status")
	if err != nil || !inSet(status, "SigBlk:", syscall.SIGCHLD) {
		return stageNone
	}
	if inSet(status, "SigBlk:", syscall.SIGINT) {
		return stageFork
	}
	line, err := readKernel(dir + "/syscall") // the call's number, or -1, and arguments
	if err != nil {
		return stageNone
	}
	switch f := append(bytes.Fields(line), nil, nil); {
	case string(f[0]) == strconv.Itoa(unix.SYS_WAIT4):
		return stageWait
	case string(f[0]) == "-1", string(f[0]) == strconv.Itoa(unix.SYS_RT_SIGACTION) && string(f[1]) == "0x2":
		return stageHandler
	}
	return stageNone
}

// An offspring is what a shell has of children.
type offspring struct {
	names       hitList
	all         int
	forked      int // those at work that are, by their name, not yet what they are to be
	busy        int // those at work
	ended       int
	interrupted int // those ended by SIGINT
}

func (h heldShell) children() (c offspring) {
	c.names = hitList{}
	for _, pid := range childrenOf(h.pid) {
		st, ok := readStat(pid)
		if ok && st.pgid == h.pid {
			c.names[pid] = st.comm
		}
		c.all++
		switch {
		case !ok || st.state == 'Z' || st.state == 'X':
			c.ended++
			if st.died.Signaled() && st.died.Signal() == syscall.SIGINT {
				c.interrupted++
			}
		case st.state == 'R' || st.state == 'D':
			c.busy++
			if st.comm == h.comm {
				c.forked++
			}
		}
	}
	return c
}

// poll returns once cond holds, or after limit.
func poll(limit time.Duration, cond func() bool) {
	for end := time.Now().Add(limit); !cond() && time.Now().Before(end); {
		time.Sleep(pollEvery)
	}
}

// add sends SIGINT to what is in the foreground and not on the list yet as what it is, and adds
// it.
func (hit hitList) add(foreground hitList) {
	for pid, comm := range foreground {
		if was, on := hit[pid]; !on || was != comm {
			_ = unix.Kill(pid, unix.SIGINT)
			hit[pid] = comm
		}
	}
}

// interruptMissed sends SIGINT to what the run has in the foreground and an interrupt has
// not reached: what was only just being started, and of what is outside the shell's process
// group (under set -m a job has its own, setsid makes one) the newest group. It adds those
// to the list and reports whether there were any.
//
// The shell gets the signal again too: the one before it may have lost. But not where it may
// have a trap, which would be set off again; and then what is new in its own group may be what
// the trap has started, to clean up, and is left alone if the interrupt reached anything that
// the trap may have been set off by.
func (hit hitList) interruptMissed(session, run procSet, shell heldShell, mayTrap bool) (any bool) {
	newest := 0
	missed := map[int]hitList{}
	for _, pid := range run.pids() {
		st, ok := readStat(pid)
		if comm, was := hit[pid]; !ok || was && comm == st.comm || pid == shell.pid || !takesInterrupt(pid) {
			continue
		}
		if missed[st.pgid] == nil {
			missed[st.pgid] = hitList{}
		}
		missed[st.pgid][pid] = st.comm
		if st.pgid != shell.pid {
			newest = max(newest, st.pgid)
		}
	}
	if mayTrap && len(hit) > 1 {
		delete(missed, shell.pid)
	}
	if len(missed) == 0 {
		return false
	}
	if newest == 0 && !mayTrap {
		hit.interruptForeground(session, run, shell)
		return true
	}
	shell.hold()
	defer shell.goOn()
	if !mayTrap {
		_ = unix.Kill(shell.pid, unix.SIGINT)
	}
	hit.add(missed[newest])
	hit.add(missed[shell.pid])
	return true
}

// wasted reports whether all that an interrupt has reached beside the shell is gone, and
// some of it may have thrown the signal away, upon which bash goes on as if there had been
// none.
func (hit hitList) wasted(shell heldShell) bool {
	wasted := false
	for pid, comm := range hit {
		if pid == shell.pid {
			continue
		}
		if st, ok := readStat(pid); ok && st.state != 'Z' {
			return false
		}
		wasted = wasted || comm == shell.comm
	}
	return wasted
}
