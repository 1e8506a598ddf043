package sessions

import (
	"bytes"
	"errors"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

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
		s.dirty = false
	case err != nil:
		s.log.Warn("state could not be saved yet", "error", err)
		s.dirtySince = time.Now()
		s.alarm.by(checkpointEvery)
	default:
		state.dir = s.directory()
		s.checkpoint, s.dirty = state, false
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

// stateLimit is how long a shell may work on a checkpoint. To tell of a hundred thousand variables
// takes bash half a minute, of which it writes nothing for most.
const stateLimit = 2 * time.Minute

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
	var worked time.Duration
	for began, end := time.Now(), time.Now().Add(answerLimit); ; {
		dead := s.sh.dead() // before it is asked what it said last
		_, ok := s.await(checkpointPoll, func(r report) bool { return r.tag == tag })
		s.readAll(fd, func(b []byte) { parser.feed(b, func(r report) { got = &r }) })
		switch {
		case ok && got != nil && got.state != nil && (got.pid == 0 || got.pid == s.sh.pid):
			return got.state, nil
		case ok:
			return nil, errIncomplete
		case dead || s.endingNow() || time.Now().After(end):
			return nil, errNoAnswer
		}
		if used, _ := cpuTime(s.sh.pid); used > worked && s.sh.unread() == 0 && time.Since(began) < stateLimit {
			worked, end = used, time.Now().Add(answerLimit)
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
