package sessions

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A death is what is known of a shell that has ended.
type death struct {
	cause RestartCause // "": it lives
	state *checkpoint  // as it was at its exit, nil where it could not say
	last  *report      // of the run asked about, where that came before the end
}

// autopsy reads all that a shell has said before it ended. run is the number of the run it
// was on, 0 for none.
func (s *Session) autopsy(run uint64) death {
	sh := s.sh
	<-sh.exited
	sh.ctl.drain()
	farewell, state := sh.farewell()
	d := death{state: state}
	for _, rep := range sh.take() {
		if k := rep.kind(); (k == 'E' || k == 'T') && rep.number() == run && d.last == nil {
			d.last = &rep
			s.noteReport(rep)
		}
	}
	if farewell != nil {
		s.noteReport(*farewell)
	}
	switch st := sh.status; {
	case farewell == nil && sh.comm != "" && sh.comm != s.m.bashComm:
		d.cause = CauseExec
	case st.Signaled():
		d.cause = CauseSignal
	default:
		d.cause = CauseExit
	}
	if st := sh.status; st.Signaled() {
		s.status = 128 + int(st.Signal())
	} else {
		s.status = st.ExitStatus()
	}
	return d
}

// replaceShell starts another shell in the state that the last one left. Where that fails
// the session has none, and the next run tries again.
func (s *Session) replaceShell(d death) {
	s.dropShell()
	restored, prev := RestoredCheckpoint, s.checkpoint
	s.mu.Lock()
	switch {
	case d.state != nil:
		restored, s.checkpoint = RestoredExit, d.state
		if d.state.inFunc && prev != nil {
			d.state.within(prev)
		}
		d.state.dir = s.cwd
	case prev != nil:
		s.cwd = prev.dir // of the same moment as all else
	}
	s.mu.Unlock()
	if d.cause == CauseExit && s.checkpoint != nil {
		s.checkpoint.exitTrap = "" // it has run
	}
	s.opts = slices.DeleteFunc(s.opts, func(o string) bool { return o == "errexit" })
	s.rearm, s.needSync, s.wild, s.dirty, s.fresh = false, false, false, true, false
	s.fallen = &Restart{Cause: d.cause, Restored: restored}
	if s.endingNow() {
		return
	}
	if err := s.revive(); err != nil {
		s.log.Error("restart shell", "error", err)
	}
}

// dropShell lets go of a shell that has ended or is about to be killed.
func (s *Session) dropShell() {
	s.sh.kill()
	<-s.sh.exited
	s.sh.close()
	s.sh = nil
	s.dropOut() // their names may be gone with the private directory
	s.code.close()
	s.copies = false
	s.mu.Lock()
	s.pid = 0
	s.mu.Unlock()
}

// revive gives a session without a shell another one, and tells so.
func (s *Session) revive() error {
	whole, err := s.restore()
	if err != nil {
		if s.sh != nil {
			s.dropShell()
		}
		return err
	}
	if !whole {
		s.fallen.Restored = RestoredNothing
	}
	s.m.cfg.Observer.ShellRestarted(s.fallen.Cause)
	s.journal.add(Entry{Kind: ShellRestarted, Restart: s.fallen}, nil)
	s.log.Info("shell restarted", "cause", s.fallen.Cause, "restored", s.fallen.Restored)
	s.fallen = nil
	return nil
}

// restore starts a shell and gives it the session's state; whole is false where the state
// keeps every new shell from answering, so that this one goes without.
func (s *Session) restore() (whole bool, err error) {
	for _, as := range []restoreMode{restoreAll, restoreTame, restoreNone} {
		if s.checkpoint == nil {
			as = restoreNone
		}
		if err := s.freshShell(as != restoreNone); err != nil {
			return false, err
		}
		if as != restoreNone {
			if err := s.writeRestore(as); err != nil {
				return false, err
			}
		}
		if s.answers("R", restoreLimit) {
			s.dropEnv()
			return as != restoreNone || s.checkpoint == nil, nil
		}
		if s.endingNow() {
			return true, nil
		}
		s.log.Warn("restored shell does not answer", "mode", as)
		s.dropShell()
	}
	return false, errors.New("no shell answers")
}

// A restoreMode says how much of a state is given to a new shell.
type restoreMode int

const (
	restoreAll  restoreMode = iota
	restoreTame             // without what runs by itself: traps and PROMPT_COMMAND
	restoreNone
)

// restoreLimit is how long a new shell may take to restore its state.
const restoreLimit = 5 * time.Second

// freshShell starts a shell with nothing but the driver in it: in an empty environment if
// a state is to be restored, which has all of the variables.
func (s *Session) freshShell(empty bool) error {
	if err := s.writeDriver(); err != nil {
		return err
	}
	env := s.env
	if empty {
		env = unnamed(env)
	}
	sh, err := s.spawnShell(existing(s.directory()), env)
	if err != nil {
		return err
	}
	s.sh = sh
	s.mu.Lock()
	s.pid = sh.pid
	s.mu.Unlock()
	sh.say(sh.call("init") + sh.armExit())
	return nil
}

// existing is the directory or the nearest above it that is still there.
func existing(dir string) string {
	for {
		if fi, err := os.Stat(dir); err == nil && fi.IsDir() || dir == "/" || dir == "." {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// writeDriver lays out the session's private directory.
func (s *Session) writeDriver() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("make session directory: %w", err)
	}
	return s.m.driver.write()
}

func (s *Session) writeRestore(as restoreMode) error {
	scripts := restoreScripts(s.checkpoint, as, existing(s.directory()))
	if s.checkpoint.exitTrap == "" || as == restoreTame {
		scripts = append(scripts, s.sh.armExit())
	}
	for i, script := range scripts {
		name := "restore" + strconv.Itoa(i)
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(script), 0o600); err != nil {
			return fmt.Errorf("write state: %w", err)
		}
		s.sh.say(s.sh.run(name))
	}
	return nil
}

// answers asks the shell, which has nothing else to do, for a report of the given kind and
// waits for it.
func (s *Session) answers(kind string, limit time.Duration) bool {
	s.syncs++
	tag := kind + strconv.FormatUint(s.syncs, 10)
	ask := able + s.sh.report(kind, s.syncs, "0", "")
	s.sh.say(ask)
	end := time.Now().Add(limit)
	for time.Now().Before(end) {
		if _, ok := s.await(nudgeAfter, func(r report) bool { return r.tag == tag }); ok {
			return true
		}
		if s.sh.dead() || s.endingNow() || !s.sh.ctl.linked() {
			return false
		}
		if s.sh.unread() == 0 {
			s.sh.say(ask) // an interrupt has swallowed the line
		}
	}
	return false
}

// await waits for a report.
func (s *Session) await(limit time.Duration, match func(report) bool) (report, bool) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		for _, r := range s.sh.take() {
			if match(r) {
				return r, true
			}
		}
		select {
		case <-s.sh.notify:
		case <-s.sh.exited:
			return report{}, false
		case <-s.ending:
			return report{}, false
		case <-timer.C:
			return report{}, false
		}
	}
}

// saveState takes a checkpoint of the idle shell if a run has ended since the last.
func (s *Session) saveState() {
	if !s.dirty || s.sh == nil || !s.settle() {
		return
	}
	state, err := s.currentState()
	switch {
	case s.endingNow():
	case errors.Is(err, errNoAnswer):
		s.giveUpShell("it does not tell its state")
	case errors.Is(err, errIncomplete):
		s.log.Warn("state could not be saved", "error", err)
		s.saved, s.dirty = time.Now(), false
	case err != nil:
		s.log.Warn("state could not be saved yet", "error", err)
		s.saved = time.Now()
		s.alarm.by(checkpointEvery)
	default:
		state.dir = s.directory()
		s.checkpoint, s.saved, s.dirty = state, time.Now(), false
		s.rearm = state.exitTrap == "" && !s.fresh
		s.unsure, s.untold = false, false
		s.ownExit = state.exitTrap != "" && !strings.Contains(state.exitTrap, s.m.driver.dir)
	}
}

// currentState is the state of the idle shell. Where nothing has run in it yet that is what
// every such shell has, and only the first of them is asked for all of it: that takes it as
// long as to start, and us as long as to start it.
func (s *Session) currentState() (*checkpoint, error) {
	known := s.m.fresh.Load()
	if s.fresh && known != nil {
		if !s.answers("S", answerLimit) {
			return nil, errNoAnswer
		}
		state := *known
		return &state, nil
	}
	state, err := s.askCheckpoint()
	if s.fresh && err == nil {
		of := *state
		of.exitTrap = "" // it is the driver's, which each session has its own of: see writeRestore
		s.m.fresh.Store(&of)
	}
	return state, err
}

var (
	errNoAnswer   = errors.New("the shell does not answer")
	errIncomplete = errors.New("it is incomplete or too large")
)

// checkpointPoll is how often a checkpoint is read while it is being written. One that the
// pipe has room for, which is most, is read once.
const checkpointPoll = 2 * time.Millisecond

// askCheckpoint has the shell write its state down. It writes hundreds of small pieces, and
// into a FIFO of their own, which nobody is woken by; its report says when all are there.
func (s *Session) askCheckpoint() (*checkpoint, error) {
	path := filepath.Join(s.dir, "k")
	fd, err := openBoth(path)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	s.syncs++
	tag := "S" + strconv.FormatUint(s.syncs, 10)
	out := ">" + quote(path) + " 2>/dev/null"
	s.sh.say(able + debugTrap + " " + out + "; " + strings.TrimSpace(s.sh.call("checkpoint", out)) + "; " + s.sh.report("S", s.syncs, "0", ""))
	var parser reportParser
	var got *report
	for end := time.Now().Add(answerLimit); ; {
		_, ok := s.await(checkpointPoll, func(r report) bool { return r.tag == tag })
		s.readAll(fd, func(b []byte) { parser.feed(b, func(r report) { got = &r }) })
		switch {
		case ok && got != nil && got.state != nil && (got.pid == 0 || got.pid == s.sh.pid):
			return got.state, nil
		case ok:
			return nil, errIncomplete
		case s.sh.dead() || s.endingNow() || time.Now().After(end):
			return nil, errNoAnswer
		}
	}
}

// readAll hands on what a file has that does not block.
func (s *Session) readAll(fd int, sink func([]byte)) {
	buf := s.m.buffers.Get().(*[readSize]byte)
	defer s.m.buffers.Put(buf)
	for {
		n, err := unix.Read(fd, buf[:])
		if err != nil || n == 0 {
			return
		}
		sink(buf[:n])
	}
}

// mayTrapReturn reports whether the shell may have a RETURN trap.
func (s *Session) mayTrapReturn() bool {
	return s.untold || s.checkpoint != nil && bytes.Contains(s.checkpoint.traps, []byte("RETURN"))
}

// debugTrap is the DEBUG trap, as the last checkpoint has it, if it must be handed over. One
// that returns would end each run before its code, and so does without.
func (s *Session) debugTrap() []byte {
	if s.checkpoint == nil || slices.Contains(s.opts, "functrace") || bytes.Contains(s.checkpoint.debug, []byte("return")) {
		return nil
	}
	return s.checkpoint.debug
}

// settle makes sure that the shell is past the interrupts that were sent to it, and that what
// is said from now on it reads, whole, and nobody else.
func (s *Session) settle() bool {
	for left := maxMoves; s.needSync; left-- {
		answered, alone := s.moveShell()
		switch {
		case !answered && s.endingNow():
			return false
		case !answered:
			s.giveUpShell("it does not answer after an interrupt")
			return false
		}
		s.needSync = !alone && left > 1
	}
	s.dropEnv()
	return true
}

// maxMoves is how often in a row a shell is moved.
const maxMoves = 3

// moveShell has the shell, which has nothing to do, take its commands from somewhere else from
// now on, and reports whether it answers there. A child that an interrupt has made take itself
// for the shell, and that waits for commands beside it, then gets none but an end of file;
// one that came along reports as the shell does, and dies of it: see endRogue. Only where the
// shell had to be told again may there be one that came along and has not reported.
func (s *Session) moveShell() (answered, alone bool) {
	sh := s.sh
	path := filepath.Join(s.dir, "n")
	fd, err := openBoth(path)
	if err != nil {
		s.log.Warn("make another command pipe", "error", err)
		return s.answers("S", answerLimit), true
	}
	defer os.Remove(path)
	to := os.NewFile(uintptr(fd), path)
	s.syncs++
	tag := "S" + strconv.FormatUint(s.syncs, 10)
	stay := strings.TrimSpace(sh.report("S", s.syncs, "1", ""))
	lines := [2]string{
		// builtin exec would move it for as long as the command goes on.
		able + `\builtin declare -F exec >/dev/null && ` + stay + ` || \exec 0<` + quote(path) + " || " + stay + "\n",
		// A wait that was interrupted at the wrong moment makes bash 5.2 end the next one at once,
		// also this one, of what is no child of its.
		`\builtin wait 1 2>/dev/null || \builtin :; ` + sh.report("S", s.syncs, "0", ""),
	}
	pipes := [2]*os.File{sh.in, to}
	end := time.Now().Add(answerLimit)
	for tries := 0; time.Now().Before(end); tries++ {
		for i, p := range pipes {
			if tries == 0 || unread(p) == 0 { // somebody else, or an interrupt, has taken it
				_, _ = p.WriteString(lines[i])
			}
		}
		rep, ok := s.await(nudgeAfter, func(r report) bool { return r.tag == tag })
		if ok && rep.status == 0 {
			sh.in.Close()
			sh.in = to
			return true, tries == 0
		}
		if ok || sh.dead() || s.endingNow() || !sh.ctl.linked() {
			to.Close()
			return ok, true
		}
	}
	to.Close()
	return false, false
}

// tame takes what the last run has left of options and the like away from the shell.
func (s *Session) tame() {
	if s.wild {
		s.wild = false
		s.sh.say(tame + "\n")
	}
}

// dropEnv gives the variables of the last run's own environment back the values they had.
func (s *Session) dropEnv() {
	if s.ownEnv {
		s.sh.say(s.sh.run("unenv"))
		s.ownEnv = false
	}
}

// giveUpShell replaces a shell that is dead, or is of no use any more.
func (s *Session) giveUpShell(why string) {
	lost := !s.sh.dead()
	if lost {
		s.log.Warn("shell given up", "why", why)
	}
	s.sh.kill()
	d := s.autopsy(0)
	if lost {
		d.cause = CauseLost
	}
	s.replaceShell(d)
}

// readyShell sees to it that there is a shell to give a run to.
func (s *Session) readyShell() error {
	if s.sh != nil {
		if !s.sh.ctl.linked() {
			s.giveUpShell("its control pipe was deleted")
		}
	}
	if s.sh != nil && s.sh.dead() {
		s.replaceShell(s.autopsy(0))
	}
	if s.sh != nil && !allowFiles(s.sh.pid) {
		s.giveUpShell("it may open too few files")
	}
	if s.sh != nil {
		s.settle()
	}
	if s.sh == nil && !s.endingNow() {
		return s.revive()
	}
	return nil
}

// changeDir moves the session where a run wants to be, and fails with the outcome of the
// run where it could not.
func (s *Session) changeDir(r *Run) (failed *outcome) {
	for {
		failed, again := s.tryChangeDir(r)
		switch {
		case s.endingNow():
			return &outcome{reason: ReasonSessionClosed}
		case !again:
			return failed
		}
		s.replaceShell(s.autopsy(0))
		if s.sh == nil {
			return refusedf(ErrRuntime, "cwd could not be changed: no shell could be started")
		}
	}
}

func refusedf(kind error, format string, args ...any) *outcome {
	return &outcome{reason: ReasonRefused, refusal: kind, detail: fmt.Sprintf(format, args...)}
}

// tryChangeDir is changeDir; again says that the shell died of something else.
func (s *Session) tryChangeDir(r *Run) (failed *outcome, again bool) {
	cwd := r.req.Cwd
	tag := "C" + strconv.FormatUint(r.Number(), 10)
	script := `CDPATH= \builtin cd -- ` + cwdWord(cwd) + " >/dev/null 2>&1 && " +
		strings.TrimSpace(s.sh.report("C", r.Number(), "0", "")) + " || " + s.sh.report("C", r.Number(), "1", "")
	if err := os.WriteFile(filepath.Join(s.dir, "cd"), []byte(script), 0o600); err != nil {
		return refusedf(ErrRuntime, "cwd could not be changed: %s", plainError(err)), false
	}
	s.sh.say(able + s.sh.run("cd"))
	rep, ok := s.await(answerLimit, func(r report) bool { return r.tag == tag })
	switch {
	case !ok && s.sh.dead() && !s.endingNow():
		return nil, true
	case !ok:
		return refusedf(ErrRuntime, "cwd %q could not be entered: the shell did not answer", cwd), false
	case rep.status != 0:
		return refusedf(ErrInvalid, "cwd %q cannot be entered: give a directory that exists", cwd), false
	}
	s.setCwd(rep.dir)
	return nil, false
}
