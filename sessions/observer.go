package sessions

import (
	"context"
	"time"
)

// An Observer is told what happens, for whoever counts or times it. Its methods are called
// from many goroutines, on the path of every run and every read, some of them under a
// session's lock: they must not block and not call back into this package, and are to cost
// little more than an atomic addition. What is told has been told before any client can see
// it.
type Observer interface {
	// SessionCreated and SessionEnded are called once for each session that Create returns.
	SessionCreated()
	SessionEnded(reason CloseReason)

	// RunEnded is called once for each run that Submit has created.
	RunEnded(r RunReport)

	// StepTaken is called for each step by which a run is made to end.
	StepTaken(step Step)

	// ShellRestarted is called when a shell has taken the place of one that ended.
	ShellRestarted(cause RestartCause)

	// OutputRead is called for each piece of output, Stdout or Stderr, that goes into a
	// journal, InputTaken for each piece of input that a run's pipe has taken. n is in bytes.
	OutputRead(stream Kind, n int)
	InputTaken(n int)

	// ReaderAttached and ReaderDetached enclose the life of each [Reader]; by is who asked for
	// it, as AttachOptions.By has it.
	ReaderAttached(by string, viewer bool)
	ReaderDetached(by string, viewer bool)

	// GapTold is called when a reader is handed a Gap of so many positions, ReaderStalled when
	// one is cut off because it took too little.
	GapTold(positions uint64)
	ReaderStalled()
}

// A Step is one by which a run is made to end. What repeats one, to make sure that it has
// worked, is not another.
type Step string

// The steps, in order: SIGINT as Ctrl-C sends it; SIGTERM and SIGKILL to what the run
// started; the end of the shell itself.
const (
	StepInterrupt Step = "int"
	StepTerm      Step = "term"
	StepKill      Step = "kill"
	StepShell     Step = "shell"
)

// A RunReport is a run that has ended, from the moment it was submitted.
type RunReport struct {
	Context context.Context // of the request; nil where it had none
	Session string
	Info    RunInfo // but for Last, which is not known yet
	Queued  time.Time
	Ended   time.Time
	Events  []RunEvent // in order

	// Bytes up to the end of the run.
	Stdout, Stderr uint64
	Stdin          uint64 // what its pipe has taken
}

// Started is when the run left the queue: when it started, or where it never did, its end.
func (r RunReport) Started() time.Time {
	if r.Info.StartedAt.IsZero() {
		return r.Ended
	}
	return r.Info.StartedAt
}

// A RunEvent is something that happened to a run while it was on: a step that was taken, or
// the end of its shell.
type RunEvent struct {
	Time  time.Time
	Step  Step         // "": it is the shell's end
	Cause RestartCause // of the shell's end
}

// reportLocked tells of a run that has just ended.
func (s *Session) reportLocked(r *Run, events []RunEvent) RunReport {
	report := RunReport{Context: r.req.Context, Session: s.id, Info: r.info, Queued: r.queued, Ended: s.active, Events: events}
	report.Stdout, report.Stderr = s.journal.written(r.info.Number)
	if r.stdin != nil {
		report.Stdin, _ = r.stdin.progress()
	}
	return report
}

// unobserved is the Observer of a Manager that was given none.
type unobserved struct{}

func (unobserved) SessionCreated()             {}
func (unobserved) SessionEnded(CloseReason)    {}
func (unobserved) RunEnded(RunReport)          {}
func (unobserved) StepTaken(Step)              {}
func (unobserved) ShellRestarted(RestartCause) {}
func (unobserved) OutputRead(Kind, int)        {}
func (unobserved) InputTaken(int)              {}
func (unobserved) ReaderAttached(string, bool) {}
func (unobserved) ReaderDetached(string, bool) {}
func (unobserved) GapTold(uint64)              {}
func (unobserved) ReaderStalled()              {}

// Stats are what there is at one moment, each session looked at in turn.
type Stats struct {
	Idle, Running int // sessions
	Queued        int // runs that wait, in all sessions
	JournalBytes  int64
	JournalLimit  int64
}

// Stats counts what there is now. Nothing is held up by it for longer than it takes to copy
// the list of sessions.
func (m *Manager) Stats() Stats {
	st := Stats{JournalBytes: m.budget.used.Load(), JournalLimit: m.budget.limit}
	m.mu.Lock()
	all := make([]*Session, 0, len(m.sessions))
	for _, s := range m.sessions {
		all = append(all, s)
	}
	m.mu.Unlock()
	for _, s := range all {
		s.countInto(&st)
	}
	return st
}

func (s *Session) countInto(st *Stats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Queued += len(s.queue)
	if s.current != nil && s.current.info.State == RunRunning {
		st.Running++
	} else {
		st.Idle++
	}
}
