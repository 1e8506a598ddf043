package sessions

import (
	"errors"
	"fmt"
)

// The kinds of failure a caller can tell apart with errors.Is. What a client may read of
// one is in the [Error] that carries it.
var (
	ErrInvalid         = errors.New("invalid request")
	ErrTooLarge        = errors.New("too large")
	ErrSessionNotFound = errors.New("session not found")
	ErrRunNotFound     = errors.New("run not found")
	ErrRunNotRunning   = errors.New("run not running")
	ErrRunExists       = errors.New("run exists")
	ErrBusy            = errors.New("session busy")
	ErrQueueFull       = errors.New("queue full")
	ErrNoStdin         = errors.New("no open stdin")
	ErrTooMany         = errors.New("too many")
	ErrClosed          = errors.New("session closed")
	ErrStalled         = errors.New("reader stalled")
	ErrRuntime         = errors.New("runtime error") // the machine's fault: no space, no processes
)

// An Error is a failure with a message meant for the client: what was wrong and what
// would be right. Kind is one of the sentinels above, and errors.Is finds it.
type Error struct {
	Kind    error
	Message string
}

func (e *Error) Error() string { return e.Message }

// Unwrap returns the kind.
func (e *Error) Unwrap() error { return e.Kind }

func failf(kind error, format string, args ...any) error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// A Reason says how a run ended.
type Reason string

// The ways a run can end. The exit code beside each: the command's own; 130, or what the
// command chose; 124; none; 128 + signal; none; none.
const (
	ReasonExited        Reason = "exited"
	ReasonInterrupted   Reason = "interrupted"
	ReasonTimedOut      Reason = "timed_out"
	ReasonCanceled      Reason = "canceled"
	ReasonShellExited   Reason = "shell_exited"
	ReasonSessionClosed Reason = "session_closed"
	ReasonRefused       Reason = "refused"
)

// A CloseReason says why a session ended.
type CloseReason string

// The ways a session can end.
const (
	CloseDeleted  CloseReason = "deleted"
	CloseIdle     CloseReason = "idle"
	CloseShutdown CloseReason = "shutdown"
)

// A RestartCause says what took a shell away.
type RestartCause string

// What can take a shell away: exit or set -e; exec; a signal; or it stopped answering.
const (
	CauseExit   RestartCause = "exit"
	CauseExec   RestartCause = "exec"
	CauseSignal RestartCause = "signal"
	CauseLost   RestartCause = "lost"
)

// A Restored says from when the state of a restarted shell is.
type Restored string

// The state as it was at the exit, or as it was at the last checkpoint; or none,
// where no shell with that state would answer.
const (
	RestoredExit       Restored = "exit"
	RestoredCheckpoint Restored = "checkpoint"
	RestoredNothing    Restored = "nothing"
)
