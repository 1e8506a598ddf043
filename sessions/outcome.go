package sessions

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
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
	case x.sent() && (x.rescued || x.rogue || x.rung > rungTerm || rep.kind() == 'T' && (x.asked || status > 128)):
		// It can no longer tell what it would have ended with, or we have ended it. Where bash breaks
		// off a builtin it leaves a $? of 128 and more that it had before that.
		x.s.status = 130
		return outcome{reason: ReasonInterrupted, status: 130}
	case x.sent() && status == 130:
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
		if x.sent() {
			stderr = bytes.TrimPrefix(stderr, []byte("\n")) // bash's own, for the ^C it did not see
		}
		s.journal.write(Stdout, x.n, stdout)
		s.journal.write(Stderr, x.n, stderr)
		s.journal.deliver(false)
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
	case x.sent() && (x.killed || x.lost || st.Signaled() && st.Signal() == unix.SIGINT):
		return outcome{reason: ReasonInterrupted, status: 130}
	case st.Signaled():
		return outcome{reason: ReasonShellExited, signal: st.Signal()}
	case x.sent():
		return outcome{reason: ReasonInterrupted, status: st.ExitStatus()}
	}
	return outcome{reason: ReasonExited, status: st.ExitStatus()}
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

// plainError is an error without the paths and calls it came by.
func plainError(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return "internal error"
}
