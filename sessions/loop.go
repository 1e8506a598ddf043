package sessions

import (
	"os"
	"time"
)

// Times of the engine, all of them trade-offs and none of them promises to clients.
const (
	// checkpointDelay is how long a session is idle before its state is saved, so that
	// the next of a quick succession of runs does not wait for it; checkpointEvery is for
	// how long it is not: then it is saved between two of them all the same.
	checkpointDelay = 25 * time.Millisecond
	checkpointEvery = time.Second

	// answerLimit is how long a shell may take to answer the driver at a time when it
	// has nothing else to do. One that does not is beyond help and is replaced.
	answerLimit = 5 * time.Second
)

// loop is the session's goroutine: it does what takes waiting, from the first to the last. It
// begins with the session's turn.
func (s *Session) loop() {
	defer close(s.done)
	s.alarm.by(0)
	defer s.alarm.stop()
	for {
		for s.running == nil {
			r := s.nextRun()
			if r == nil {
				s.answerState()
				break
			}
			s.begin(r)
		}
		rang := s.sleep()
		switch {
		case s.running != nil:
			s.attend()
		case s.endingNow():
			s.shutDown()
			return
		case s.sh != nil && s.sh.dead():
			s.replaceShell(s.autopsy(0))
			s.alarm.by(checkpointDelay)
		case rang:
			if left := checkpointDelay - time.Since(s.rested); left > 0 {
				s.alarm.by(left)
			} else {
				s.saveState()
				s.rest()
			}
		case s.sh != nil:
			s.sh.take() // reports that came twice
		}
	}
}

// sleep gives the session's turn away until there is something to do, and reports whether it was
// the alarm that said so.
func (s *Session) sleep() (rang bool) {
	var said, gone <-chan struct{}
	if s.sh != nil {
		said, gone = s.sh.notify, s.sh.exited
	}
	alarm := s.alarm.c()
	s.turn.Unlock()
	defer func() {
		s.turn.Lock()
		if rang {
			s.alarm.rang()
		}
	}()
	select {
	case <-s.wake:
	case <-said:
	case <-gone:
	case <-alarm:
		rang = true
	case <-s.ending:
	}
	return rang
}

// rouse has loop look what there is to do.
func (s *Session) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// nextRun takes the first run out of the queue, having saved the state first if need be.
func (s *Session) nextRun() *Run {
	s.mu.Lock()
	save := s.mustSaveLocked()
	s.mu.Unlock()
	if save {
		s.saveState()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.takeLocked()
}

// mustSaveLocked reports whether the state is to be saved before the next run: some of it is that
// old, or the run might end the shell in a way that keeps it from telling its state.
func (s *Session) mustSaveLocked() bool {
	if !s.dirty || s.unsure || time.Since(s.dirtySince) > checkpointEvery {
		return s.dirty
	}
	return len(s.queue) > 0 && (s.ownExit || mentions(s.queue[0].req.Code, ending))
}

// takeLocked takes the first run out of the queue; nil: there is none, or it will not run.
func (s *Session) takeLocked() *Run {
	if s.isEnding || len(s.queue) == 0 {
		return nil
	}
	r := s.queue[0]
	s.queue[0] = nil
	s.queue = s.queue[1:]
	s.current, s.fresh = r, false
	s.refuseStateLocked()
	return r
}

// shutDown ends everything in order: the processes, so that nothing more can be written;
// the runs, the one that was on already having been ended by attend; then, once asked
// for, the session itself.
func (s *Session) shutDown() {
	s.endProcesses()
	s.mu.Lock()
	queue := s.queue
	s.queue = nil
	for _, r := range queue {
		s.finishLocked(r, outcome{reason: ReasonSessionClosed})
	}
	s.mu.Unlock()
	for _, r := range queue {
		s.logEnd(r)
	}
	close(s.runless)
	<-s.closing
	for _, p := range append(s.late, s.out[:]...) {
		if p != nil {
			p.drain()
		}
	}
	s.journal.add(Entry{Kind: SessionClosed, Closed: s.reason}, nil)
	for _, p := range append(s.late, s.out[:]...) {
		if p != nil {
			p.close()
		}
	}
	if s.sh != nil {
		s.sh.close()
	}
	s.code.close()
	s.wg.Wait()
	s.journal.leaveBudget()
	s.cgroup.remove()
	if err := os.RemoveAll(s.dir); err != nil {
		s.log.Error("remove session directory", "error", err)
	}
	if s.admitted {
		s.m.cfg.Observer.SessionEnded(s.reason)
		s.log.Info("session closed", "reason", s.reason)
	}
}

// endGrace is how long the processes of a session that is being closed may take to end by
// themselves before they are killed, killLimit how long the kernel may take for that.
const (
	endGrace  = 250 * time.Millisecond
	killLimit = 5 * time.Second
)

func (s *Session) endProcesses() {
	if s.ended {
		return
	}
	s.ended = true
	if !s.endShell() {
		s.processes().askToEnd(0, endGrace)
		s.cgroup.kill(killLimit)
		if !s.processes().endAll(0, 0, killLimit) { // what moved elsewhere too
			s.log.Error("processes could not be killed")
		}
	}
	if s.sh != nil {
		s.sh.killGroup() // for where processes carry no labels
	}
}

// endShell ends the shell, and reports whether nothing else of the session lives. What does is
// looked for while the shell dies, which takes as long.
func (s *Session) endShell() (alone bool) {
	shell := 0
	if s.sh != nil {
		s.sh.kill()
		shell = s.sh.pid
	}
	alone = s.processes().holdsOnly(shell)
	if s.sh != nil {
		<-s.sh.exited
	}
	return alone && s.cgroup.empty()
}

// rest closes what only makes the next run faster: idle sessions are many, and descriptors few.
func (s *Session) rest() {
	s.code.close()
	s.cgroup.rest()
	for _, p := range s.out {
		if p != nil {
			p.letGo()
		}
	}
	if s.sh != nil {
		s.sh.ctl.letGo()
	}
}
