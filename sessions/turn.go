package sessions

// A run goes from hand to hand: from who submits it to loop, from that to the shell, back by way
// of a pipe's goroutine to loop, and on to who waits for it. To wake a goroutine takes as long as
// a builtin. So whoever has a run in hand does himself what comes next, as long as that waits for
// nothing and nothing unusual is on; loop has the rest. Session.turn sees to it that there is one
// at a time, and who does not get it at once leaves the work to who has it, by way of loop.

// launch sees to it that a run that was queued is begun. No lock may be held.
func (s *Session) launch() {
	if !s.turn.TryLock() {
		s.rouse()
		return
	}
	defer s.turn.Unlock()
	s.goOn()
}

// heardFrom sees to it that somebody looks at the reports that a pipe of the shell's has brought.
// prompt says that it is the pipe's own goroutine that asks, which may end the run.
func (s *Session) heardFrom(sh *shell, prompt bool) {
	if !sh.news.Swap(false) || prompt && s.land(sh) {
		return
	}
	select {
	case sh.notify <- struct{}{}:
	default:
	}
}

// land ends the run that is on if the shell has reported its end, and reports whether that was
// looked at: not where somebody else is at work, or where the run was not left to itself.
func (s *Session) land(sh *shell) (looked bool) {
	if !s.turn.TryLock() {
		return false
	}
	defer s.turn.Unlock()
	x := s.running
	if x == nil || x.sh != sh || x.interrupt || x.sent() || x.stopping != "" || !sh.calm() || s.endingNow() {
		return false
	}
	if o, ended := x.reported(sh.told()); ended {
		s.conclude(x, o)
		s.goOn()
	}
	return true
}

// goOn begins the next run, where none is on and the shell can be given it as it is, and leaves it
// to loop else.
func (s *Session) goOn() {
	if s.running != nil {
		return // whoever ends it goes on
	}
	steady := s.steady()
	var next *Run
	s.mu.Lock()
	if steady && len(s.queue) > 0 && s.queue[0].req.Cwd == "" && !s.mustSaveLocked() {
		next = s.takeLocked()
	}
	left := len(s.queue) > 0
	s.mu.Unlock()
	if next != nil {
		s.give(s.newExecution(next))
	}
	if left && s.running == nil {
		s.rouse()
	}
}
