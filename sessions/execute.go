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

// An execution is the session's goroutine at work on one run. The session's alarm rings for
// the nearest of the moments in it.
type execution struct {
	s  *Session
	r  *Run
	sh *shell
	n  uint64

	said      int       // bytes of command lines
	first     int       // of them, those of the lines that run the code
	quick     bool      // it is quickLine that runs the code
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

// execute runs one run from its place at the head of the queue to its end.
func (s *Session) execute(r *Run) {
	began := time.Now()
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
	if !s.dirty {
		s.dirty, s.dirtySince = true, began
	}
	if x.death.cause != "" && !s.endingNow() {
		s.replaceShell(x.death)
	}
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
		s.unenv = "" // it has not come to have the run's environment
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
	x.asked, x.idle, x.quick, x.guard = false, time.Time{}, false, false
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
		status: s.status, opts: s.opts, tmout: s.tmout, prompt: s.prompt, rearm: s.rearm, debug: s.debugTrap(), returns: s.mayTrapReturn()}
	var pump *stdinPump
	if r.stdin != nil {
		h.stdin = filepath.Join(s.dir, "i"+strconv.FormatUint(x.n, 10))
		if err := unix.Mkfifo(h.stdin, 0o600); err != nil {
			return nil, err
		}
		pump = startStdinPump(h.stdin, r.stdin)
	}
	_, s.tmoutLent = r.req.Env["TMOUT"]
	script, lines := x.compose(h, sh.forget())
	if script != nil {
		if err := s.code.write(script); err != nil {
			return pump, err
		}
	}
	if len(r.req.Env) > 0 {
		if saved := filepath.Join(s.dir, "env"); !regular(saved) {
			_ = os.RemoveAll(saved)
		}
		s.unenvs++ // the shell may not have come to the last one yet
		s.unenv = "unenv" + strconv.Itoa(s.unenvs%2)
		if err := writeFile(filepath.Join(s.dir, s.unenv), sh.unenv(r.req.Env)); err != nil {
			return pump, err
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
	return pump, nil
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
		return nil, sh.quickLine(x.n, "{ "+line+"; }"+h.redirects())
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
			rogue := x.sh.tookRogue()
			x.rogue = x.rogue || rogue && x.sent()
			if o, ended := x.reported(x.sh.told()); ended {
				return o
			}
			if !rogue {
				continue
			}
			x.interrupt = x.interrupt || x.sent() // it was wasted on the child
			x.asked, x.idle = false, time.Time{}
			x.s.needSync = true
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
