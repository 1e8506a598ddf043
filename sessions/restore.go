package sessions

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
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
	sh.own[0].drain()
	farewell, state := sh.farewell()
	d := death{state: state}
	for _, rep := range sh.told() {
		if k := rep.kind(); (k == 'E' || k == 'T') && rep.number() == run && d.last == nil {
			d.last = &rep
			s.noteReport(rep)
		}
	}
	if farewell != nil {
		s.noteReport(*farewell)
	}
	another := sh.comm != "" && sh.comm != s.m.bashComm
	switch st := sh.status; {
	case farewell == nil && (another || s.becameBash()):
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

// becameBash reports whether a shell that has said nothing at its end has made another bash of itself:
// with our EXIT trap it would have said so, unless there was nothing that it could become.
func (s *Session) becameBash() bool {
	st := s.sh.status
	armed := !s.untold && !s.ownExit && !s.rearm
	return armed && st.Exited() && st.ExitStatus() != 126 && st.ExitStatus() != 127
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
	s.rearm, s.needSync, s.wild, s.fresh = false, false, false, false
	s.dirty, s.dirtySince = true, time.Now()
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
		if s.answers("R", s.restoreLimit()) {
			s.unsure = s.unsure || s.unenv != "" // the state has the run's environment yet
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

// restoreLimit is how long a new shell may take to restore its state: as long as any answer, and
// longer where there is a lot, such as an array of a million words.
func (s *Session) restoreLimit() time.Duration {
	const perMiB = 2 * time.Second
	if s.checkpoint == nil {
		return answerLimit
	}
	return answerLimit + time.Duration(len(s.checkpoint.vars)>>20)*perMiB
}

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
		if err := writeFile(filepath.Join(s.dir, name), script); err != nil {
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
		if r, ok := s.sh.heard(match); ok {
			return r, true
		}
		select {
		case <-s.sh.notify:
		case <-s.sh.exited:
			s.sh.ctl.drain() // it may have said so all the same
			return s.sh.heard(match)
		case <-s.ending:
			return report{}, false
		case <-timer.C:
			return report{}, false
		}
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
