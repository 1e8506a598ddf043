package sessions

import (
	"time"

	"golang.org/x/sys/unix"
)

// The kill ladder: INT at once, TERM and KILL to what the run started after a second each,
// and the shell when that has not helped either.
const (
	termAfter  = time.Second
	killAfter  = 2 * time.Second
	shellAfter = 3 * time.Second

	// askAfter is when a shell that was interrupted is asked for the report, which it may have
	// lost to the interrupt.
	askAfter = 20 * time.Millisecond

	// nudgeAfter is when an interrupt that changed nothing is looked at again: the foreground
	// may be outside the process group, or just taking its time.
	nudgeAfter = 200 * time.Millisecond

	// reachLimit is for how long after an interrupt what is started may have been meant by it, however
	// late that is seen; later it may be to clean up.
	reachLimit = askAfter + nudgeAfter

	// rescueAfter is how long a shell that has nothing to do may leave a question unanswered
	// before it is given its builtins back, askLimit before it is given up.
	rescueAfter = 300 * time.Millisecond
	askLimit    = 2 * time.Second

	// maxNudges is how often at most.
	maxNudges = 30

	// beginLimit is when a run has begun, whatever it looks like.
	beginLimit = 50 * time.Millisecond

	// retryEvery is how soon an interrupt that can do harm yet is tried again.
	retryEvery = 3 * time.Millisecond

	// guardAfter is when the shell is told what to do where the report of a run is lost with the
	// line that it is in, as by a SIGINT that the code sends: most runs have ended by then, and the
	// others end that much later.
	guardAfter = 10 * time.Millisecond

	// watchEvery is how often a run is checked for a shell that has stopped answering.
	watchEvery = 500 * time.Millisecond

	// maxSpins is for how many of those in a row it may spin.
	maxSpins = 3

	// leftoverGrace is how long what a timed-out run left behind may take to end.
	leftoverGrace = 250 * time.Millisecond
)

// asks acts on what was asked of the run since the last time.
func (x *execution) asks() {
	s, r := x.s, x.r
	s.mu.Lock()
	interrupts, force, canceled := r.interrupts, r.force, r.canceled
	r.interrupts = 0
	s.mu.Unlock()
	if interrupts > 0 {
		x.askToInterrupt()
	}
	if force {
		x.beginLadder("")
	}
	if canceled {
		x.beginLadder(ReasonCanceled)
	}
}

func (x *execution) beginLadder(why Reason) {
	if x.stopping == "" {
		x.stopping = why
	}
	if x.ladder.IsZero() {
		x.ladder = time.Now()
		x.askToInterrupt()
		x.rung = rungTerm
	}
}

// askToInterrupt has an interrupt sent as soon as it can do no harm.
func (x *execution) askToInterrupt() {
	if !x.interrupt {
		x.interrupt = true
		x.took(StepInterrupt)
	}
}

// took notes a step.
func (x *execution) took(step Step) {
	x.s.m.cfg.Observer.StepTaken(step)
	x.events = append(x.events, RunEvent{Time: time.Now(), Step: step})
}

// The rungs of the ladder that come after the interrupt.
const (
	rungTerm = iota
	rungKill
	rungShell
	rungEnd
)

// climb does what is due.
func (x *execution) climb(now time.Time) {
	if !x.deadline.IsZero() && !now.Before(x.deadline) {
		x.deadline = time.Time{}
		x.beginLadder(ReasonTimedOut)
	}
	if at := x.guardAt(); !at.IsZero() && !now.Before(at) {
		x.sayGuard()
	}
	if x.interrupt && x.begun(now) && !x.sh.leaving() {
		x.interrupt = false
		x.sayGuard()
		x.hit, x.reaped = hitList{}, 0
		if sent := x.hit.interruptForeground(x.s.processes(), x.s.ofRun(x.r), x.heldShell(), x.mayTrap()); !sent.IsZero() {
			x.sentAt = sent
		}
		now = time.Now()
		x.nudge = now.Add(askAfter)
		if x.asked {
			x.nudge = now.Add(nudgeAfter)
		}
	}
	if !x.nudge.IsZero() && !now.Before(x.nudge) {
		x.lookAgain(now)
	}
	if at := x.rungAt(); !at.IsZero() && !now.Before(at) {
		x.step(now)
	}
	if !now.Before(x.watch) {
		x.watch = now.Add(watchEvery)
		x.idleShell(now)
		x.breakSpin()
	}
}

// breakSpin ends a shell that sends itself SIGINT for ever, as bash 5.2 does when one comes
// at the moment at which it would take its own handler for the one to restore; and a child
// that does the same before it has become anything else.
func (x *execution) breakSpin() {
	if !x.sent() {
		return
	}
	last := x.spins
	x.spins = map[int]spin{}
	for _, pid := range append(forksOf(x.sh.pid, x.s.m.bashComm), x.sh.pid) {
		now := spinOf(pid)
		if now.goesNowhere(last[pid]) {
			now.times = last[pid].times + 1
		}
		x.spins[pid] = now
		switch {
		case now.times < maxSpins:
		case pid == x.sh.pid:
			x.giveUp("it sends itself an interrupt for ever")
		default:
			x.rogue = true
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// giveUp ends a shell that will not come to the end of the run.
func (x *execution) giveUp(why string) {
	x.s.log.Warn("shell given up", "run_id", x.r.ID(), "why", why)
	x.lost = true
	x.sh.kill()
}

// begun reports whether the shell has come as far as the code, so that an interrupt cannot
// hit the lines that lead there: it has opened the run's FIFOs. Code may have closed them
// again at once; nothing takes beginLimit to open them.
func (x *execution) begun(now time.Time) bool {
	return now.Sub(x.began) > beginLimit && (x.asked || x.sh.unread() <= x.said-x.first) || x.s.out[0].held() || x.s.out[1].held()
}

func (x *execution) heldShell() heldShell {
	return heldShell{x.sh.pid, x.s.m.bashComm, func() bool {
		x.sh.ctl.drain()
		return x.sh.leaving()
	}}
}

// lookAgain is for an interrupt that has changed nothing. Either the report was lost to it,
// or the foreground never got it, being outside of the shell's process group or not yet
// there: which, shows in whether the shell reads a line that is said to it.
func (x *execution) lookAgain(now time.Time) {
	x.nudge = time.Time{}
	switch {
	case !x.asked:
		x.idleShell(now)
		x.nudge = now.Add(nudgeAfter)
		if !x.mayTrap() && !x.s.untold && x.hit.gone(x.heldShell()) { // what there is has begun since
			x.nudge = now.Add(askAfter)
		}
	case x.idleShell(now):
		x.nudge = now.Add(nudgeAfter) // it may not be idle: somebody else may have read the line
	case x.nudges == maxNudges:
	case x.hit.wasted(x.heldShell()):
		x.nudges++
		x.interrupt = true
	case x.interruptMissed():
		x.nudges++
		x.nudge = now.Add(nudgeAfter)
	case !x.mayTrap():
		x.lookAtShell(now)
	}
}

// sent reports whether an interrupt was sent.
func (x *execution) sent() bool { return !x.sentAt.IsZero() }

func (x *execution) interruptMissed() (any bool) {
	sent := x.hit.interruptMissed(x.s.processes(), x.s.ofRun(x.r), x.heldShell(), x.sentAt, x.mayTrap())
	if sent.IsZero() {
		return false
	}
	x.sentAt = sent
	return true
}

// lookAtShell is for an interrupt that bash itself may have lost: it throws one away that comes
// when a child has just ended by itself, and loses one at times that comes while it forks. It
// looks twice, a moment apart.
func (x *execution) lookAtShell(now time.Time) {
	was, reaped := x.reaped, reapedBy(x.sh.pid)
	x.reaped = reaped
	switch {
	case was == 0:
		x.nudge = now.Add(nudgeAfter / 10)
	case was != reaped, x.deafAlone(): // it goes on to start one child after the other, or has lost it
		x.nudges++
		x.interrupt = true
	case x.hit.gone(x.heldShell()), x.heldShell().waitsForTurn(): // it may just not have come to do anything
		x.nudges++
		x.reaped = 0
		x.nudge = now.Add(nudgeAfter)
	}
}

// deafAlone reports whether all that the run has beside the shell ignores interrupts: then bash
// has lost the one it was sent, unless it has a trap that is at work. No trap must be set off
// again: code since the checkpoint may have set one that mayTrap does not know of.
func (x *execution) deafAlone() bool {
	return !x.s.untold && x.s.ofRun(x.r).ignoreInterrupts(x.sh.pid)
}

// mayTrap reports whether the shell may have a trap for SIGINT, as far as can be told from
// outside: bash catches it in any case. Once the run is to be ended, a trap does not count.
func (x *execution) mayTrap() bool {
	if x.traps == nil {
		code := x.r.req.Code
		may := trapWord.MatchString(code) || x.s.checkpoint != nil && x.s.checkpoint.mayTrap(code)
		x.traps = &may
	}
	return x.ladder.IsZero() && *x.traps
}

// rungAt is when the next rung of the ladder is due.
func (x *execution) rungAt() time.Time {
	if x.ladder.IsZero() || x.rung == rungEnd {
		return time.Time{}
	}
	return x.ladder.Add([...]time.Duration{termAfter, killAfter, shellAfter}[x.rung])
}

func (x *execution) step(now time.Time) {
	procs := x.s.ofRun(x.r)
	x.took([...]Step{StepTerm, StepKill, StepShell}[x.rung])
	switch x.rung {
	case rungTerm:
		procs.signalAll(unix.SIGTERM, x.sh.pid)
		procs.signalAll(unix.SIGCONT, 0)
		x.interrupt = true
	case rungKill:
		// The shell stands still meanwhile: what it would start next is not to be killed but
		// interrupted, or else it goes on to what comes after that.
		_ = unix.Kill(x.sh.pid, unix.SIGSTOP)
		procs.signalAll(unix.SIGKILL, x.sh.pid)
		_ = unix.Kill(x.sh.pid, unix.SIGCONT)
		x.interrupt = true
	case rungShell:
		_ = unix.Kill(x.sh.pid, unix.SIGSTOP) // or else it goes on to what comes next
		procs.endAll(x.sh.pid, 0, leftoverGrace)
		x.killed = true
		x.sh.kill()
	}
	x.rung++
}

// idleShell reports whether the shell has nothing left to run and yet has not reported. It
// says a line that asks for the report: a shell that is busy leaves it unread. One that
// reads it and does not answer is rescued, and if that does not help either, ended.
func (x *execution) idleShell(now time.Time) bool {
	if x.asked && x.sh.unread() > 0 {
		x.idle = time.Time{}
		return false
	}
	switch {
	case !x.asked:
		x.asked = true
		x.say(x.askLine())
		return false
	case x.idle.IsZero():
		x.idle = now
	case now.Sub(x.idle) > askLimit:
		x.giveUp("it has read all and does not report")
	case now.Sub(x.idle) > rescueAfter:
		x.rescued = true
		x.say(x.sh.rescue(x.n))
	}
	return true
}

// nearest is how long to sleep until something is due.
func (x *execution) nearest(now time.Time) time.Duration {
	at := x.watch
	for _, t := range []time.Time{x.deadline, x.guardAt(), x.nudge, x.rungAt()} {
		if !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	if soon := now.Add(retryEvery); x.interrupt && soon.Before(at) {
		at = soon
	}
	return max(at.Sub(now), 0)
}
