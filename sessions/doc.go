// Package sessions is the engine: bash sessions that outlive their commands, the runs they
// are given, and the journal of all that happens. It knows no wire format; doors to it are
// built on its exported methods alone.
//
// # A session
//
// A session is one bash, interactive but without a terminal, in a session of its own
// (setsid). It reads commands from a pipe; shell.bash and the scripts made in script.go are
// what it is told. Its own stdout and stderr are pipes that are read and thrown away, so
// nothing of the driver's can be seen: what the shell says after a run has taken it down
// is that run's, though, since bash runs an EXIT trap there after set -e. The code of a run
// is evaluated with its stdin, stdout and stderr redirected to /dev/null or FIFOs of its
// own. That output is never looked at: the shell reports on a control FIFO that is opened by
// name for each report, so user code can neither close it nor hold it, or on its own stdout.
//
// One run is two lines of commands. The first sources a file that evaluates the code, and
// then reports E, with the exit status, the options and the directory; the second reports T
// where the first did not come to its end: after an interrupt, an unset variable under
// set -u. Reports carry the number of the run, so that one too many does no harm. In a session
// none of whose code can have meddled with what the lines are made of, as far as its words tell,
// they are shorter, E is on the shell's own stdout, and the second is said only where E does not
// come at once; a plain command, which reads and starts nothing, stands in the line itself there, and
// has no stdin of its own: see hints.go and shell.quickLine.
//
// What is on the path of every run is there for a reason: see shell.lines for what a report
// takes, openFIFO and alarm for what wakes whom, codeFile and Session.rest for what is kept
// open and for how long.
//
// # States and goroutines
//
// A run moves queued → running → finished, a session live → ending → ended; neither ever
// moves back. Each session has one goroutine (loop) that sees to its shell: it takes runs from
// the queue, hands them over, notices their end, climbs the kill ladder, saves the state
// and replaces the shell. Others set what they want under Session.mu and wake it. Where nothing
// has to be waited for, who submits a run hands it over himself, and the goroutine that has read
// the report ends it: waking another takes as long as a builtin. Whoever is at the shell has
// Session.turn, and so the Session's fields beside those of Session.mu; loop gives it away only
// while it sleeps, all others only try to get it and keep it no longer than a run takes to hand
// over or to write down (turn.go). Beside loop there are, each waited for by whoever started it:
// one goroutine per pipe that is read (pipe.loop), one that waits for the shell's death, and
// while a run has a stdin, one that feeds it. The Manager has one that reaps idle sessions
// and cuts stalled readers off.
//
// Who follows the journal waits for Reader.Ready and pulls, in a goroutine of its own. A little
// output for the only reader there is handed on by the pipe's goroutine instead, where the reader
// offers that (Reader.Deliver): waking another goroutine takes longer than all else that a
// keystroke's echo needs here.
//
// Locks are taken in the order Session.turn, Session.mu, journal.mu; the last two are not held
// across a read, a write or a wait. pipe.mu, which comes after Session.turn too, is held from
// reading bytes to having them in the journal, stdin.mu while input is written to a FIFO that does
// not block, stdinPump.mu before it.
//
// # The end of a run
//
// On a report, in this order: what the run's pipes hold at that moment is read into the
// journal, waiting for no reader; the end is written to the journal; the next run may
// begin. A FIFO that a process of the run still holds is left to it (its late output keeps
// the run's number) and the next run gets a new one. An end of file is never waited for.
//
// The shell may end instead: exit, set -e, exec, a signal. Its EXIT trap then has reported
// X and the state at that moment (K); without, the state is that of the last checkpoint:
// taken once the session has been idle for a moment, before a run that begins when some of
// the state is a second old, and before one that might end the shell without a word. What a
// run that began sooner takes along is lost with the shell, however long that lasts. A new
// shell is started and given the state as scripts; a state that keeps it from answering is
// given without its traps, then not at all. A run that was handed to a shell that died without
// reading it is handed to the next.
//
// An interrupt is sent only once the run has opened its FIFOs, so that it cannot hit the
// lines before, and where bash neither loses it nor is spoilt by it, as far as that can be
// had: the shell is stopped for it, and let go on for moments until it stands well (see
// interrupt_linux.go). It can hit the lines after: where no report comes, the shell is asked
// again. It can also hit a child between fork and the reset of its signals, which then goes on
// as if it were the shell, and reads commands as that does. Reports tell it by its pid, and it
// is killed when it gives one; and after a run that was interrupted the shell has to take its
// commands from another FIFO and answer there, before it is given the next one. A shell that
// reads such questions and does not answer is replaced (cause lost).
//
// # What a run started
//
// Processes carry a label that the kernel hands down from a process to what it starts: see
// proctree_linux.go. It names server, session and run, so that exactly a run's processes
// can be signalled and a session's ended, whatever they did to get away.
//
// # Completion
//
// What Tab would offer is asked of a helper: a bash with line editing, started for the one
// question beside the shell, in the state of the last checkpoint, and killed with all that
// it started once it has answered. The session's goroutine only saves the state for it, so
// that neither the shell nor a run notices. readline is worked by keys (complete.bash), and
// the candidates are read off the line that it has edited (word.go).
//
// # The end of a session
//
// In this order: no more runs are taken; the shell is killed, so that nothing new is
// started, and every process with the session's label, TERM first and KILL after a short
// grace; the current run and the queued ones end as session_closed; SessionClosed is
// written; pipes are closed and goroutines waited for; the private directory is removed.
// Close of the Manager does that for all, Drain only up to the runs, so that doors can tell
// their clients in between. When the server dies without all that, the guardian, a process
// of its own, kills what carries the server's label and removes the directory; it is replaced
// should it die first. Where both are killed, the next server to use the same place does it:
// see owner.go. A session's processes also share a cgroup where there may be one: see
// cgroup_linux.go. Orphans become the server's children where that is wanted, and are reaped
// by the Manager's goroutine: see orphans_linux.go.
//
// # What failures do
//
// No room for the code or no process for a new shell: the run ends as refused and says why,
// the session stays and the next run tries again. The private directory deleted: it is made
// anew, with a new shell in the last state. A shell that cannot be labelled: only its
// process group is found. A reader that stops reading: it is cut off, the command goes on.
package sessions
