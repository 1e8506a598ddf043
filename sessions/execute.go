package sessions

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// An execution is the work on one run, from the queue to its end. The session's alarm rings for the
// nearest of the moments in it.
type execution struct {
	s    *Session
	r    *Run
	n    uint64
	from time.Time // when it was taken from the queue
	sh   *shell
	pump *stdinPump // nil: it reads no stdin

	said      int       // bytes of command lines
	first     int       // of them, those of the lines that run the code
	quick     bool      // it is quickLine that runs the code
	plain     bool      // a plain command, which starts nothing and reads nothing
	guard     bool      // its second line has not been said
	unheard   bool      // there was no shell any more to say them to
	began     time.Time // when they were said
	deadline  time.Time // zero: none
	watch     time.Time
	stopping  Reason       // timed_out or canceled, once that is why the run is to end
	interrupt bool         // one is to be sent once the shell has read its line
	sentAt    time.Time    // when the last one was; zero: none was
	hit       hitList      // what it has reached
	nudges    int          // how often it was looked at again
	reaped    int          // what the shell had had of children when it was last looked at; 0: it was not
	nudge     time.Time    // when to look whether it did anything; zero: not due
	ladder    time.Time    // when the ladder was begun; zero: it was not
	rung      int          // the next one
	asked     bool         // a line asking for the report again waits to be read
	idle      time.Time    // since when the shell, having read all, owes the report; zero: it does not
	spins     map[int]spin // what the shell and its forks were last seen to have done since it was interrupted
	rescued   bool         // it was given its builtins back
	rogue     bool         // a child that the interrupt reached took itself for the shell and was killed
	lost      bool         // it did not answer, and was killed for it
	killed    bool         // it was killed as the last rung
	traps     *bool        // what mayTrap found, once it was asked
	death     death        // of a shell that has ended
	events    []RunEvent
}

func (s *Session) newExecution(r *Run) *execution {
	return &execution{s: s, r: r, n: r.Number(), from: time.Now()}
}

// begin gives a run from the head of the queue to the shell, having made both ready.
func (s *Session) begin(r *Run) {
	x := s.newExecution(r)
	switch o, err := x.prepare(); {
	case err != nil:
		s.concludeFailed(x, err)
	case o != nil:
		s.conclude(x, *o)
	default:
		s.give(x)
	}
}

// give is begin for a run that needs nothing made ready.
func (s *Session) give(x *execution) {
	if s.start(x.r) {
		s.conclude(x, outcome{reason: ReasonCanceled})
		return
	}
	s.hand(x)
}

// hand gives a run that has started to the shell.
func (s *Session) hand(x *execution) {
	if err := x.dispatch(); err != nil {
		s.concludeFailed(x, err)
		return
	}
	s.running = x
}

// attend ends the run that is on, or begins it anew, or does what is due.
func (s *Session) attend() {
	x := s.running
	o, over := x.look()
	switch {
	case !over:
	case x.neverBegan() && x.stopping == "" && !s.endingNow():
		s.running = nil
		s.again(x)
	default:
		s.conclude(x, o)
	}
}

// again gives a run to another shell: an idle one can end at any time, and no run is to notice.
func (s *Session) again(x *execution) {
	x.pump.stop()
	x.pump = nil
	s.unenv = "" // it has not come to have the run's environment
	s.replaceShell(x.death)
	x.death = death{}
	if s.sh != nil && x.r.req.Cwd != "" {
		if failed := s.changeDir(x.r); failed != nil {
			s.conclude(x, *failed)
			return
		}
	}
	if s.sh == nil {
		s.concludeFailed(x, errors.New("no shell"))
		return
	}
	s.hand(x)
}

func (s *Session) concludeFailed(x *execution, err error) {
	s.log.Error("run could not be started", "run_id", x.r.ID(), "error", err)
	s.conclude(x, outcome{reason: ReasonRefused, refusal: ErrRuntime, detail: "the run could not be started: " + plainError(err)})
}

// conclude writes the end of a run down, and makes ready for the next what can be at once.
func (s *Session) conclude(x *execution, o outcome) {
	r := x.r
	s.running = nil
	x.pump.stop()
	o.events = x.events
	s.drainOut()
	s.mu.Lock()
	s.finishLocked(r, o)
	s.mu.Unlock()
	runtime.Gosched() // to who waits for this end: what is left to do here can wait
	s.tame()
	s.logEnd(r)
	s.retireOut()
	if !s.dirty {
		s.dirty, s.dirtySince = true, x.from
	}
	if x.death.cause != "" && !s.endingNow() {
		s.replaceShell(x.death)
	}
	s.rested = time.Now()
	s.alarm.by(checkpointDelay)
}

func (s *Session) endingNow() bool {
	select {
	case <-s.ending:
		return true
	default:
		return false
	}
}

// prepare makes the shell ready and moves it where the run wants to be. o is how the run has ended
// over that, nil where it can go on.
func (x *execution) prepare() (o *outcome, err error) {
	s := x.s
	if err := s.readyShell(); err != nil {
		return nil, err
	}
	if s.endingNow() {
		return &outcome{reason: ReasonSessionClosed}, nil
	}
	if x.r.req.Cwd != "" {
		return s.changeDir(x.r), nil
	}
	return nil, nil
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
	if r.interrupts > 0 {
		s.rouse() // it was asked for before there was anything to do about it
	}
	return false
}

// dispatch hands the code to the shell.
func (x *execution) dispatch() error {
	s, r, sh := x.s, x.r, x.s.sh
	x.sh = sh
	x.asked, x.idle, x.quick, x.plain, x.guard = false, time.Time{}, false, false, false
	s.dropEnv()
	if err := s.outPipes(x.n); err != nil {
		return err
	}
	h := handover{stdin: os.DevNull, stdout: s.outPath[0], stderr: s.outPath[1], env: r.req.Env,
		status: s.status, opts: s.opts, tmout: s.tmout, prompt: s.prompt, rearm: s.rearm, debug: s.debugTrap(), returns: s.mayTrapReturn()}
	if r.stdin != nil {
		h.stdin = filepath.Join(s.dir, "i"+strconv.FormatUint(x.n, 10))
	}
	_, s.tmoutLent = r.req.Env["TMOUT"]
	script, lines := x.compose(h, sh.forget())
	if r.stdin != nil && !x.plain {
		if err := unix.Mkfifo(h.stdin, 0o600); err != nil {
			return err
		}
		x.pump = startStdinPump(h.stdin, r.stdin)
	}
	if script != nil {
		if err := s.code.write(script); err != nil {
			return err
		}
	}
	if len(r.req.Env) > 0 {
		if saved := filepath.Join(s.dir, "env"); !regular(saved) {
			_ = os.RemoveAll(saved)
		}
		s.unenvs++ // the shell may not have come to the last one yet
		s.unenv = "unenv" + strconv.Itoa(s.unenvs%2)
		if err := writeFile(filepath.Join(s.dir, s.unenv), sh.unenv(r.req.Env)); err != nil {
			return err
		}
	}
	if err := s.runLabel(x.n).attach(sh.pid); err != nil {
		s.log.Debug("label run", "error", err)
	}
	sh.ctl.hold()
	sh.tookRogue() // before this run
	s.copies = s.copies || mentions(r.req.Code, copying)
	s.untold = s.untold || mentions(r.req.Code, trapping)
	s.unsure = s.unsure || len(h.debug) > 0 || mentions(r.req.Code, ownTraps)
	x.said, x.began, x.unheard = 0, time.Now(), false
	x.say(lines)
	x.first = x.said
	now := time.Now()
	if r.timeout > 0 {
		x.deadline = now.Add(r.timeout)
	}
	x.watch = now.Add(watchEvery)
	s.alarm.by(x.nearest(now))
	return nil
}

// compose makes the script of a run, nil where there is none, and the lines that run it. The shell
// has complained if the driver wanted of it what it cannot do, or a run has failed that code that is
// hidden from us made impossible.
func (x *execution) compose(h handover, complained bool) (script []byte, lines string) {
	s, sh, code := x.s, x.sh, x.r.req.Code
	s.meddled = s.meddled || meddles(code)
	for name, value := range h.env {
		s.meddled = s.meddled || meddlesAs(name+"="+value)
	}
	s.tells = s.tells || mentions(code, telling)
	tamed := len(h.opts) > 0 || h.tmout != "" || s.tmoutLent || h.prompt || mentions(code, hasty)
	if s.meddled || tamed || complained || h.status == 1 {
		return sh.script(code, h), h.before() + sh.lines(x.n, tamed)
	}
	sh.listen()
	x.quick, x.guard = true, true
	if line := strings.Trim(code, " \t\n"); h.bare() && !s.tells && plainCommand(line) {
		x.plain = true
		return nil, sh.quickLine(x.n, "{ "+line+"; }"+h.outputs())
	}
	return sh.script(code, h), h.before() + sh.quickLine(x.n, sh.goes+" && ((1))")
}

// sayGuard says the line that was kept back.
func (x *execution) sayGuard() {
	if x.guard {
		x.say(x.sh.quickGuard(x.n))
		x.guard = false
	}
}

// guardAt is when that must be said; zero: it was.
func (x *execution) guardAt() time.Time {
	if !x.guard {
		return time.Time{}
	}
	return x.began.Add(guardAfter)
}

// say says lines to the shell, and counts them.
func (x *execution) say(lines string) {
	heard := x.sh.say(lines)
	if x.said == 0 {
		x.unheard = !heard
	}
	if heard {
		x.said += len(lines)
	}
}

// askLine asks for the report of the run, in case an interrupt took those in its lines along, or
// something has spoilt one on the shell's own stdout: that has left a $? of 0, and the status at
// the end of $_.
func (x *execution) askLine() string {
	status := `"$?"`
	if x.quick {
		status = `"$? $_"`
	}
	return x.sh.report("T", x.n, status, `"$_"`)
}

// look tells how the run has ended, if it has, or does what is due.
func (x *execution) look() (o outcome, over bool) {
	rogue := x.sh.tookRogue()
	x.rogue = x.rogue || rogue && x.sent()
	if o, ended := x.reported(x.sh.told()); ended {
		return o, true
	}
	if rogue {
		x.interrupt = x.interrupt || x.sent() // it was wasted on the child
		x.asked, x.idle = false, time.Time{}
		x.s.needSync = true
	}
	x.asks()
	switch {
	case x.s.endingNow():
		x.s.endProcesses()
		return outcome{reason: ReasonSessionClosed}, true
	case x.sh.dead():
		return x.shellGone(), true
	}
	now := time.Now()
	x.climb(now)
	x.s.alarm.by(x.nearest(now))
	return outcome{}, false
}

// reported looks for the report of this run.
func (x *execution) reported(reports []report) (outcome, bool) {
	for _, rep := range reports {
		k := rep.kind()
		if k != 'E' && k != 'T' || rep.number() != x.n {
			continue
		}
		if k == 'T' && rep.status < 0 && x.sent() { // a DEBUG trap of the user's stood between
			rep.status = 130
		}
		x.s.meddled = x.s.meddled || rep.spoilt
		x.s.noteReport(rep)
		x.s.needSync = x.s.needSync || x.sent()
		if x.stopping == ReasonTimedOut {
			x.s.ofRun(x.r).endAll(x.sh.pid, leftoverGrace, killLimit)
		}
		return x.judge(rep), true
	}
	return outcome{}, false
}

// driverOptions are the options that the driver takes off once a run has ended, since most of
// its own lines must not run under them: the user has them while code runs. Their letters are
// those in $-.
var driverOptions = []struct{ name, letter string }{
	{"errexit", "e"}, {"errtrace", "E"}, {"functrace", "T"}, {"history", " "}, {"verbose", "v"}, {"xtrace", "x"},
}

// driverOptionsOf are those that a report says are on.
func driverOptionsOf(rep report) (on []string) {
	letters, short := strings.CutPrefix(rep.opts, "-")
	var names []string
	if !short {
		names = strings.Split(rep.opts, ":")
	}
	for _, o := range driverOptions {
		if short && strings.Contains(letters, o.letter) || slices.Contains(names, o.name) {
			on = append(on, o.name)
		}
	}
	return on
}

// noteReport keeps what a report says of the shell's state.
func (s *Session) noteReport(rep report) {
	s.status = max(rep.status, 0)
	if !s.tmoutLent {
		s.tmout = rep.tmout
	}
	s.prompt = rep.prompt
	s.opts = driverOptionsOf(rep)
	s.setCwd(rep.dir)
	s.wild = rep.wild && (rep.tmout != "" || len(s.opts) > 0)
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
