package sessions

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"
)

const (
	// StdinWindow is how many bytes a run's stdin holds that the run has not read yet.
	StdinWindow = 2 << 20

	// MaxCode is the longest code a run may have, in bytes.
	MaxCode = 16 << 20

	// ShownCode is how much of a run's code is kept in its [RunInfo], in bytes.
	ShownCode = 4 << 10

	// MaxEnv is how many bytes of names and values a run or a session may be given.
	MaxEnv = 1 << 20
)

// A Stdin says what a run reads as its standard input.
type Stdin uint8

// The kinds of standard input: /dev/null; a given text, then EOF; a stream that
// [Run.WriteStdin] feeds and [Run.CloseStdin] ends.
const (
	NoStdin Stdin = iota
	TextStdin
	OpenStdin
)

// A RunRequest says what to run and how. Only Code is required.
type RunRequest struct {
	ID        string            // 1 to 128 of A-Z a-z 0-9 . _ -; "": one is chosen
	Code      string            // bash; at most MaxCode bytes, none of them NUL
	Cwd       string            // the session moves there first, as cd would; ~ and $VAR are expanded
	Env       map[string]string // exported for this run alone
	Timeout   time.Duration     // from the start of the run; 0: the configured ceiling
	Stdin     Stdin
	StdinText []byte // with TextStdin
	By        string // which door asked: "rest" or "ws"

	// Context is kept until the run has ended, for the values that Config.Observer may look
	// for in it. Its own end is nothing to the run.
	Context context.Context

	// A tethered run is canceled once nobody holds it any more (see [Run.Hold]) and
	// Grace has passed without a new holder.
	Tethered bool
	Grace    time.Duration

	// OnQueued, if set, is called once from within Submit when the run has to wait, with
	// the number of runs before it, and before any event of the run is recorded. It must
	// not block or call back into the session.
	OnQueued func(ahead int)
}

// A RunState only ever moves forward, in the order below.
type RunState string

// The states of a run.
const (
	RunQueued  RunState = "queued"
	RunRunning RunState = "running"
	RunDone    RunState = "finished"
)

// A RunInfo is what is known of a run at one moment. It does not change afterwards.
type RunInfo struct {
	ID            string
	Number        uint64 // 1, 2, … in its session
	State         RunState
	Code          string // its first ShownCode bytes
	CodeTruncated bool
	By            string
	Cwd           string    // where it started; once finished, where the session is
	StartedAt     time.Time // zero when it never started
	First         uint64    // position of RunStarted, or of the submission before that
	Last          uint64    // once finished: position of RunFinished

	// Once finished:
	Reason   Reason
	ExitCode *int   // nil where there is none
	Signal   string // "SIGKILL", when a signal ended the shell
	Duration time.Duration
	Detail   string // refused: why, for the client
	Refusal  error  // refused: ErrInvalid where the request was at fault, or ErrRuntime
}

// A Run is one piece of code given to a session. Its methods may be called from any
// goroutine, at any time.
type Run struct {
	s       *Session
	from    uint64 // position at submission
	queued  time.Time
	timeout time.Duration
	sum     [sha256.Size]byte // of the code
	req     RunRequest        // Code, Env, StdinText and Context are dropped at the end
	started chan struct{}
	done    chan struct{}
	stdin   *stdin // nil when none was asked for

	// Guarded by s.mu.
	info       RunInfo
	interrupts int  // asked for and not yet acted upon
	force      bool // escalate
	canceled   bool
	holders    int
	tethered   bool
	graceTimer *time.Timer
}

// ID is the run's name within its session.
func (r *Run) ID() string { return r.req.ID }

// Number is the run's place in its session's order of submission, from 1.
func (r *Run) Number() uint64 { return r.info.Number }

// From is the journal's end when the run was submitted: all of the run lies at or after
// it.
func (r *Run) From() uint64 { return r.from }

// Info returns what is known of the run now.
func (r *Run) Info() RunInfo {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return r.info
}

// Started returns a channel that is closed when the run has started, or has ended without.
func (r *Run) Started() <-chan struct{} { return r.started }

// Done returns a channel that is closed when the run has ended and its end is in the
// journal.
func (r *Run) Done() <-chan struct{} { return r.done }

// Output returns what the journal still has of the run's output from position after on,
// at most limit bytes of it counted from the end, the position after all that was looked
// at, and whether anything was left out.
func (r *Run) Output(after uint64, limit int) (entries []Entry, next uint64, truncated bool) {
	return r.s.journal.output(r.Number(), r.Info().First, after, limit)
}

// Hold says that somebody is reading the run. Of a tethered run, the last holder to let
// go cancels it, unless it let go because the engine cut it off. The returned function
// lets go; only its first call counts.
func (r *Run) Hold() (release func(cut bool)) {
	r.s.mu.Lock()
	r.holders++
	if r.graceTimer != nil {
		r.graceTimer.Stop()
		r.graceTimer = nil
	}
	r.s.mu.Unlock()
	var once sync.Once
	return func(cut bool) { once.Do(func() { r.letGo(cut) }) }
}

func (r *Run) letGo(cut bool) {
	r.s.mu.Lock()
	r.holders--
	if cut {
		r.tethered = false
	}
	deserted := r.desertedLocked()
	if deserted && r.req.Grace > 0 {
		r.graceTimer = time.AfterFunc(r.req.Grace, func() { r.s.cancel(r, r.desertedLocked) })
	}
	r.s.mu.Unlock()
	if deserted && r.req.Grace == 0 {
		r.s.cancel(r, r.desertedLocked)
	}
}

func (r *Run) desertedLocked() bool {
	return r.holders == 0 && r.tethered && r.info.State != RunDone
}

// StdinOpen reports whether WriteStdin would be taken now.
func (r *Run) StdinOpen() bool { return r.stdin != nil && r.stdin.isOpen() }

// WriteStdin adds p to the run's stdin, also before the run has started. It blocks while
// more than [StdinWindow] bytes wait to be read by the run, until ctx ends. It fails with
// [ErrNoStdin] when the run has no open stdin, or no longer.
func (r *Run) WriteStdin(ctx context.Context, p []byte) error {
	return r.writeStdin(ctx, piece{bytes: p})
}

// WriteStdinAt is like WriteStdin for bytes of which offset come before, counted from the
// first that anybody wrote. What has arrived already is left out, so that it is safe to write
// it again, also after CloseStdin; an offset beyond that fails with [ErrInvalid].
func (r *Run) WriteStdinAt(ctx context.Context, offset uint64, p []byte) error {
	return r.writeStdin(ctx, piece{bytes: p, at: offset, known: true})
}

func (r *Run) writeStdin(ctx context.Context, p piece) error {
	if r.stdin == nil {
		return r.noStdin()
	}
	if err := r.stdin.write(ctx, p); err != nil {
		if err == errStdinClosed {
			return r.noStdin()
		}
		return err
	}
	return nil
}

// CloseStdin ends the run's stdin after what was written to it.
func (r *Run) CloseStdin() error {
	if r.stdin == nil || !r.stdin.closeWrite() {
		return r.noStdin()
	}
	return nil
}

func (r *Run) noStdin() error {
	return failf(ErrNoStdin, "run %s has no open stdin: ask for it when the run is submitted, and write before closing it", r.ID())
}

// StdinTaken returns how many bytes the run's pipe has taken so far, and a channel that is
// closed when that changes or the stdin ends.
func (r *Run) StdinTaken() (n uint64, changed <-chan struct{}) {
	if r.stdin == nil {
		c := make(chan struct{})
		close(c)
		return 0, c
	}
	return r.stdin.progress()
}
