package sessions

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The kill ladder: INT at once, TERM and KILL to what the run started after a second each,
// and the shell when that has not helped either.
const (
	termAfter  = time.Second
	killAfter  = 2 * time.Second
	shellAfter = 3 * time.Second

	// nudgeAfter is when an interrupt that changed nothing is looked at again: bash may
	// have lost a report to it, or the foreground may be outside the process group.
	nudgeAfter = 200 * time.Millisecond

	// rescueAfter is how long a shell that has nothing to do may leave a question unanswered
	// before it is given its builtins back, askLimit before it is given up.
	rescueAfter = 300 * time.Millisecond
	askLimit    = 2 * time.Second

	// maxNudges is how often at most.
	maxNudges = 10

	// beginLimit is when a run has begun, whatever it looks like.
	beginLimit = 50 * time.Millisecond

	// burst is how many more interrupts follow a rung, a burstEvery apart. What the rung
	// ended may have ended by something else than SIGINT, and then the shell goes on to
	// the next command.
	burst      = 10
	burstEvery = 3 * time.Millisecond

	// watchEvery is how often a run is checked for a shell that has stopped answering.
	watchEvery = 500 * time.Millisecond

	// maxSpins is for how many of those in a row it may spin.
	maxSpins = 3

	// leftoverGrace is how long what a timed-out run left behind may take to end.
	leftoverGrace = 250 * time.Millisecond
)

// An outcome is how a run ended, before it is written down.
type outcome struct {
	reason  Reason
	status  int
	signal  syscall.Signal
	detail  string
	refusal error
	events  []RunEvent
}

// exitCode is what clients are told, the same over every door.
func (o outcome) exitCode() *int {
	var code int
	switch o.reason {
	case ReasonCanceled, ReasonRefused, ReasonSessionClosed:
		return nil
	case ReasonTimedOut:
		code = 124
	case ReasonShellExited:
		code = 128 + int(o.signal)
	default:
		code = o.status
	}
	return &code
}

// An execution is the session's goroutine at work on one run. The session's alarm rings for
// the nearest of the moments in it.
type execution struct {
	s  *Session
	r  *Run
	sh *shell
	n  uint64

	said      int       // bytes of command lines
	unheard   bool      // there was no shell any more to say them to
	began     time.Time // when they were said
	deadline  time.Time // zero: none
	watch     time.Time
	stopping  Reason    // timed_out or canceled, once that is why the run is to end
	interrupt bool      // one is to be sent once the shell has read its line
	sent      bool      // one was sent
	hit       hitList   // what it has reached
	nudges    int       // how often it was looked at again
	nudge     time.Time // when to look whether it did anything; zero: not due
	ladder    time.Time // when the ladder was begun; zero: it was not
	rung      int       // the next one
	bursts    int       // interrupts still to follow a rung
	asked     bool      // a line asking for the report again waits to be read
	idle      time.Time // since when the shell, having read all, owes the report; zero: it does not
	spin      spin      // what the shell was last seen to have done since it was interrupted
	spins     int       // how often in a row that was nothing
	rescued   bool      // it was given its builtins back
	rogue     bool      // a child took itself for the shell and was killed
	lost      bool      // it did not answer, and was killed for it
	killed    bool      // it was killed as the last rung
	death     death     // of a shell that has ended
	events    []RunEvent
}

// execute runs one run from its place at the head of the queue to its end.
func (s *Session) execute(r *Run) {
	x := &execution{s: s, r: r, n: r.Number()}
	o, err := x.run()
	if err != nil {
		s.log.Error("run could not be started", "run_id", r.ID(), "error", err)
		o = outcome{reason: ReasonRefused, refusal: ErrRuntime, detail: "the run could not be started: " + plainError(err)}
	}
	o.events = x.events
	s.drainOut()
	s.mu.Lock()
	s.finishLocked(r, o)
	s.mu.Unlock()
	runtime.Gosched() // to who waits for this end: what is left to do here can wait
	s.tame()
	s.logEnd(r)
	s.retireOut()
	s.dirty = true
	if x.death.cause != "" && !s.endingNow() {
		s.replaceShell(x.death)
	}
}

// plainError is an error without the paths and calls it came by.
func plainError(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return "internal error"
}

func (s *Session) endingNow() bool {
	select {
	case <-s.ending:
		return true
	default:
		return false
	}
}

func (x *execution) run() (outcome, error) {
	s, r := x.s, x.r
	if err := s.readyShell(); err != nil {
		return outcome{}, err
	}
	if s.endingNow() {
		return outcome{reason: ReasonSessionClosed}, nil
	}
	if r.req.Cwd != "" {
		if failed := s.changeDir(r); failed != nil {
			return *failed, nil
		}
	}
	if s.start(r) {
		return outcome{reason: ReasonCanceled}, nil
	}
	for {
		o, again, err := x.try()
		if err != nil || !again {
			return o, err
		}
		s.replaceShell(x.death)
		x.death = death{}
		if s.sh != nil && r.req.Cwd != "" {
			if failed := s.changeDir(r); failed != nil {
				return *failed, nil
			}
		}
		if s.sh == nil {
			return outcome{}, errors.New("no shell")
		}
	}
}

// try gives the run to the shell and waits for its end. again says that the shell died
// without having begun it: an idle shell can end at any time, and no run is to notice.
func (x *execution) try() (o outcome, again bool, err error) {
	x.sh = x.s.sh
	x.asked, x.idle = false, time.Time{}
	pump, err := x.dispatch()
	if pump != nil {
		defer pump.stop()
	}
	if err != nil {
		return outcome{}, false, err
	}
	o = x.wait()
	return o, x.neverBegan() && x.stopping == "" && !x.s.endingNow(), nil
}

// neverBegan reports whether the shell died without having read what it was told.
func (x *execution) neverBegan() bool {
	return x.death.cause != "" && x.death.last == nil && !x.killed && !x.lost && (x.unheard || x.sh.unread() >= x.said)
}

// start writes the run's start down, unless it was canceled on its way here.
func (s *Session) start(r *Run) (canceled bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.canceled {
		return true
	}
	r.info.State = RunRunning
	r.info.Cwd = s.cwd
	r.info.StartedAt = time.Now()
	s.active = r.info.StartedAt
	info := r.info
	s.journal.add(Entry{Kind: RunStarted, Info: &info}, func(pos uint64) {
		r.info.First, info.First = pos, pos
	})
	close(r.started)
	return false
}

// dispatch hands the code to the shell.
func (x *execution) dispatch() (*stdinPump, error) {
	s, r, sh := x.s, x.r, x.sh
	if err := s.outPipes(x.n); err != nil {
		return nil, err
	}
	h := handover{stdin: os.DevNull, stdout: s.outPath[0], stderr: s.outPath[1], env: r.req.Env,
		status: s.status, opts: s.opts, tmout: s.tmout, prompt: s.prompt, rearm: s.rearm}
	var pump *stdinPump
	if r.stdin != nil {
		h.stdin = filepath.Join(s.dir, "i"+strconv.FormatUint(x.n, 10))
		if err := unix.Mkfifo(h.stdin, 0o600); err != nil {
			return nil, err
		}
		pump = startStdinPump(h.stdin, r.stdin)
	}
	if err := s.code.write(filepath.Join(s.dir, "go"), sh.script(r.req.Code, h)); err != nil {
		return pump, err
	}
	if len(r.req.Env) > 0 {
		if err := os.WriteFile(filepath.Join(s.dir, "unenv"), []byte(sh.unenv(r.req.Env)), 0o600); err != nil {
			return pump, err
		}
		s.ownEnv = true
	}
	if err := s.runLabel(x.n).attach(sh.pid); err != nil {
		s.log.Debug("label run", "error", err)
	}
	sh.ctl.hold()
	allowFiles(sh.pid)
	sh.forget()
	lines := sh.lines(x.n, len(s.opts) > 0 || s.tmout != "" || s.prompt || mentions(r.req.Code, hasty))
	if slices.Contains(s.opts, "functrace") {
		lines = "\\builtin set -T\n" + lines // or else sourcing takes the DEBUG trap off
	}
	s.copies = s.copies || mentions(r.req.Code, copying)
	x.said, x.began, x.unheard = 0, time.Now(), false
	x.say(lines)
	return pump, nil
}

// hasty is code after which something may be run or recorded before tame is: then its options
// must be taken off by the very line that ran it. copying is code that may make the shell keep
// a descriptor of the run's output, or that may run such code.
var (
	hasty   = []string{"history", "PROMPT_COMMAND", "TMOUT"}
	copying = []string{"&", "exec", "source", ". ", ".\t", ".\\"}
)

// mentions reports whether any of the words is in code.
func mentions(code string, words []string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(code, w) })
}

// say says lines to the shell, and counts them.
func (x *execution) say(lines string) {
	if heard := x.sh.say(lines); x.said == 0 {
		x.unheard = !heard
	}
	x.said += len(lines)
}

// askLine asks for the report of the run, in case an interrupt took those in its lines along.
func (x *execution) askLine() string {
	return x.sh.report("T", x.n, `"$?"`, `"$_"`)
}

// wait sees the run to its end.
func (x *execution) wait() outcome {
	now := time.Now()
	if x.r.timeout > 0 {
		x.deadline = now.Add(x.r.timeout)
	}
	x.watch = now.Add(watchEvery)
	for {
		x.s.alarm.by(x.nearest(now))
		select {
		case <-x.sh.notify:
			if o, ended := x.reported(x.sh.take()); ended {
				return o
			}
			if !x.sh.tookRogue() {
				continue
			}
			x.rogue = true
			x.interrupt = x.sent // it was wasted on the child
		case <-x.sh.exited:
			if x.s.endingNow() {
				return outcome{reason: ReasonSessionClosed}
			}
			return x.shellGone()
		case <-x.s.ending:
			x.s.endProcesses()
			return outcome{reason: ReasonSessionClosed}
		case <-x.r.poke:
			x.asks()
		case <-x.s.alarm.c():
			x.s.alarm.rang()
		}
		now = time.Now()
		x.climb(now)
	}
}

// reported looks for the report of this run.
func (x *execution) reported(reports []report) (outcome, bool) {
	for _, rep := range reports {
		k := rep.kind()
		if k != 'E' && k != 'T' || rep.number() != x.n {
			continue
		}
		x.s.noteReport(rep)
		x.s.needSync = x.sent
		if x.stopping == ReasonTimedOut {
			x.s.ofRun(x.r).endAll(x.sh.pid, leftoverGrace, killLimit)
		}
		return x.judge(rep), true
	}
	return outcome{}, false
}

// driverOptions are the options that the driver takes off once a run has ended, since most of
// its own lines must not run under them: the user has them while code runs.
var driverOptions = []string{"errexit", "errtrace", "functrace", "history", "verbose", "xtrace"}

// noteReport keeps what a report says of the shell's state.
func (s *Session) noteReport(rep report) {
	s.status = max(rep.status, 0)
	s.tmout = rep.tmout
	s.prompt = rep.prompt
	s.opts = nil
	for _, o := range strings.Split(rep.opts, ":") {
		if slices.Contains(driverOptions, o) {
			s.opts = append(s.opts, o)
		}
	}
	s.setCwd(rep.dir)
	s.wild = rep.wild && (s.tmout != "" || len(s.opts) > 0)
}

// setCwd notes where the shell is, by its own word or, where it has none, the kernel's.
func (s *Session) setCwd(dir string) {
	if !filepath.IsAbs(dir) {
		dir = workingDir(s.sh.pid)
	}
	if filepath.IsAbs(dir) {
		s.mu.Lock()
		s.cwd = dir
		s.mu.Unlock()
	}
}

// judge tells how a run ended whose shell lives. A command that took an interrupt and went
// on to its own end has exited; one that the interrupt put an end to was interrupted, and
// then bash says 130, or it never came to the end of the code (T), or it took more than
// that.
func (x *execution) judge(rep report) outcome {
	status := rep.status
	if status < 0 {
		status = 1
	}
	switch {
	case x.stopping == ReasonTimedOut || x.stopping == ReasonCanceled:
		return outcome{reason: x.stopping}
	case x.sent && (x.rescued || x.rogue || x.rung > rungTerm || x.asked && rep.kind() == 'T'):
		// It can no longer tell what it would have ended with, or we have ended it.
		return outcome{reason: ReasonInterrupted, status: 130}
	case x.sent && (status == 130 || rep.kind() == 'T' && status > 128):
		return outcome{reason: ReasonInterrupted, status: status}
	}
	return outcome{reason: ReasonExited, status: status}
}

// shellGone tells how a run ended that took the shell along, once all it said is known.
func (x *execution) shellGone() outcome {
	s, sh := x.s, x.sh
	x.death = s.autopsy(x.n)
	if x.lost {
		x.death.cause = CauseLost
	}
	x.events = append(x.events, RunEvent{Time: time.Now(), Cause: x.death.cause})
	for _, p := range s.out {
		p.drain()
	}
	if x.death.last == nil && !x.lost && !x.neverBegan() {
		stdout, stderr := sh.lastWords()
		if x.sent {
			stderr = bytes.TrimPrefix(stderr, []byte("\n")) // bash's own, for the ^C it did not see
		}
		s.journal.write(Stdout, x.n, stdout)
		s.journal.write(Stderr, x.n, stderr)
	}
	if x.stopping == ReasonTimedOut {
		s.ofRun(x.r).endAll(sh.pid, leftoverGrace, killLimit)
	}
	st := sh.status
	switch {
	case x.death.last != nil:
		return x.judge(*x.death.last)
	case x.stopping != "":
		return outcome{reason: x.stopping}
	case x.sent && (x.killed || x.lost || st.Signaled() && st.Signal() == unix.SIGINT):
		return outcome{reason: ReasonInterrupted, status: 130}
	case st.Signaled():
		return outcome{reason: ReasonShellExited, signal: st.Signal()}
	case x.sent:
		return outcome{reason: ReasonInterrupted, status: st.ExitStatus()}
	}
	return outcome{reason: ReasonExited, status: st.ExitStatus()}
}

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
	if x.interrupt && x.begun(now) && !x.sh.leaving() {
		x.interrupt = x.bursts > 0
		x.bursts = max(x.bursts-1, 0)
		x.sent = true
		x.hit = interruptForeground(x.s.processes(), x.s.ofRun(x.r), x.sh.pid)
		x.nudge = now.Add(nudgeAfter)
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
// at the moment at which it would take its own handler for the one to restore.
func (x *execution) breakSpin() {
	if !x.sent {
		return
	}
	last := x.spin
	x.spin = spinOf(x.sh.pid)
	if !x.spin.goesNowhere(last) {
		x.spins = 0
		return
	}
	if x.spins++; x.spins == maxSpins {
		x.lost = true
		x.sh.kill()
	}
}

// begun reports whether the shell has come as far as the code, so that an interrupt cannot
// hit the lines that lead there: it has opened the run's FIFOs. Code may have closed them
// again at once; nothing takes beginLimit to open them.
func (x *execution) begun(now time.Time) bool {
	return now.Sub(x.began) > beginLimit && (x.asked || x.sh.unread() == 0) || x.s.out[0].held() || x.s.out[1].held()
}

// lookAgain is for an interrupt that has changed nothing. Either the report was lost to it,
// or the foreground never got it, being outside of the shell's process group or not yet
// there: which, shows in whether the shell reads a line that is said to it.
func (x *execution) lookAgain(now time.Time) {
	x.nudge = time.Time{}
	switch {
	case !x.asked:
		x.idleShell(now)
		x.nudge = now.Add(nudgeAfter / 10)
	case x.idleShell(now) || x.nudges == maxNudges:
	case x.hit.interruptMissed(x.s.ofRun(x.r), x.sh.pid, x.mayTrap()):
		x.nudges++
		x.nudge = now.Add(nudgeAfter)
	case x.hit.wasted(x.sh.pid, x.s.m.bashComm):
		x.nudges++
		x.interrupt = true
	}
}

// trapping is code that may set a trap.
var trapping = regexp.MustCompile(`\btrap\b`)

// mayTrap reports whether the shell may have a trap for SIGINT, as far as can be told from
// outside: bash catches it in any case.
func (x *execution) mayTrap() bool {
	c := x.s.checkpoint
	return trapping.MatchString(x.r.req.Code) || c != nil && (bytes.Contains(c.traps, []byte("SIGINT")) || trapping.Match(c.functions))
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
		x.interrupt, x.bursts = true, burst
	case rungKill:
		// The shell stands still meanwhile: what it would start next is not to be killed but
		// interrupted, or else it goes on to what comes after that.
		_ = unix.Kill(x.sh.pid, unix.SIGSTOP)
		procs.signalAll(unix.SIGKILL, x.sh.pid)
		_ = unix.Kill(x.sh.pid, unix.SIGCONT)
		x.interrupt, x.bursts = true, burst
	case rungShell:
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
		x.lost = true
		x.sh.kill()
	case now.Sub(x.idle) > rescueAfter:
		x.rescued = true
		x.say(x.sh.rescue(x.n))
	}
	return true
}

// nearest is how long to sleep until something is due.
func (x *execution) nearest(now time.Time) time.Duration {
	at := x.watch
	for _, t := range []time.Time{x.deadline, x.nudge, x.rungAt()} {
		if !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	if soon := now.Add(burstEvery); x.interrupt && soon.Before(at) {
		at = soon
	}
	return max(at.Sub(now), 0)
}

// finishLocked writes a run's end down.
func (s *Session) finishLocked(r *Run, o outcome) {
	if r.graceTimer != nil {
		r.graceTimer.Stop()
	}
	if r.stdin != nil {
		r.stdin.end()
	}
	if r.info.StartedAt.IsZero() {
		close(r.started)
	} else {
		r.info.Duration = time.Since(r.info.StartedAt)
	}
	if s.current == r {
		s.current = nil
	}
	s.active = time.Now()
	r.info.State = RunDone
	r.info.Reason = o.reason
	r.info.ExitCode = o.exitCode()
	r.info.Detail, r.info.Refusal = o.detail, o.refusal
	r.info.Cwd = s.cwd
	if o.reason == ReasonShellExited {
		r.info.Signal = unix.SignalName(o.signal)
	}
	s.m.cfg.Observer.RunEnded(s.reportLocked(r, o.events))
	r.req.Code, r.req.Env, r.req.StdinText, r.req.Context = "", nil, nil, nil
	info := r.info
	s.journal.add(Entry{Kind: RunFinished, Info: &info}, func(pos uint64) {
		r.info.Last, info.Last = pos, pos
	})
	close(r.done)
}

// logEnd writes one line on a run that has ended. No lock may be held.
func (s *Session) logEnd(r *Run) {
	i := r.Info()
	attrs := append(make([]slog.Attr, 0, 6), slog.String("run_id", i.ID), slog.Uint64("number", i.Number),
		slog.String("by", i.By), slog.String("reason", string(i.Reason)), slog.Duration("duration", i.Duration))
	if i.ExitCode != nil {
		attrs = append(attrs, slog.Int("exit_code", *i.ExitCode))
	}
	s.log.LogAttrs(context.Background(), slog.LevelInfo, "run", attrs...)
}
