package sessions

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// steady reports whether there is a shell that a run can be given as it is.
func (s *Session) steady() bool {
	return s.sh != nil && s.sh.ctl.linked() && !s.sh.dead() && !s.meddled && !s.needSync
}

// readyShell sees to it that there is a shell to give a run to.
func (s *Session) readyShell() error {
	if s.sh != nil && !s.sh.ctl.linked() {
		s.giveUpShell("its control pipe was deleted")
	}
	if s.sh != nil && s.sh.dead() {
		s.replaceShell(s.autopsy(0))
	}
	if s.sh != nil && s.meddled && !allowFiles(s.sh.pid) {
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
	if s.unenv != "" {
		s.sh.say(s.sh.run(s.unenv))
		s.unenv = ""
	}
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
	if err := writeFile(filepath.Join(s.dir, "cd"), script); err != nil {
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
