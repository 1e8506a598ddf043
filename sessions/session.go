package sessions

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// A State says whether a session is running something.
type State string

// The states of a session that has not ended.
const (
	Idle    State = "idle"
	Running State = "running"
)

// Options say how a session is to be. The zero value is a session in the server's
// directory.
type Options struct {
	Cwd  string            // made where it is missing; ~ and $VAR are expanded, unless a directory has exactly this name
	Name string            // for people; need not be unique
	Env  map[string]string // on top of the server's
}

// An Info is what is known of a session at one moment.
type Info struct {
	ID        string
	Name      string
	State     State
	Cwd       string
	CreatedAt time.Time
	ActiveAt  time.Time // last time something was asked of it or it ran something
	Clients   int       // attached with AttachOptions.Client
	Queued    int
	Run       *RunInfo // the one running
}

// A Session is one persistent shell, the queue of runs for it, and the journal of all that
// happened. Its methods may be called from any goroutine and none waits for the shell.
//
// One goroutine, loop, sees to the shell: see the package documentation.
type Session struct {
	m       *Manager
	id      string
	seq     uint64 // the session's number in process labels
	dir     string // private directory
	env     []string
	cgroup  *cgroup // nil: none
	journal *journal
	log     *slog.Logger
	wake    chan struct{} // something was queued or asked
	ending  chan struct{} // closed: end the runs and the processes
	closing chan struct{} // closed: end altogether; after ending
	runless chan struct{} // closed: the runs have ended
	done    chan struct{} // closed: nothing is left
	wg      sync.WaitGroup

	completing chan struct{} // held by the completion that is on
	unplaced   atomic.Bool   // a process was started outside the cgroup

	admitted bool // somebody was told of it

	mu       sync.Mutex
	name     string
	cwd      string
	created  time.Time
	active   time.Time
	clients  int
	next     uint64 // number of the last run
	queue    []*Run
	current  *Run
	runs     []*Run // bounded history, oldest first
	byID     map[string]*Run
	isEnding bool
	reason   CloseReason
	pid      int            // of the shell
	asking   chan idleState // a completion waits for the state

	// turn is held by who works with the shell: loop while it is awake, and in passing who submits
	// a run or reads a report, so that nobody need be woken for that. Nobody but loop waits for it
	// or, having it, for the shell. The rest is for who holds it.
	turn       sync.Mutex
	sh         *shell
	running    *execution // nil: nothing is with the shell
	rested     time.Time  // since when
	code       codeFile   // of the current run
	out        [2]*pipe   // stdout and stderr of the current run
	outPath    [2]string
	outOwner   [2]*atomic.Uint64 // the number of the run that writes to out
	late       []*pipe           // of earlier runs, held by processes that live on
	fifos      int               // how many were made, for their names
	status     int               // $? of the last run
	opts       []string          // of driverOptions: those the user has on
	tmout      string
	prompt     bool
	untold     bool // there may be a trap that checkpoint does not have
	unsure     bool // and one that the next run must not begin without
	meddled    bool // some code may have touched what the driver is made of or needs: see hints.go
	tells      bool // some code may have made what tells how a plain command is run
	ownExit    bool // the user's EXIT trap has taken the place of ours
	wild       bool // the shell itself still has opts and tmout on
	copies     bool // the shell may have copied a run's output to other descriptors
	rearm      bool
	checkpoint *checkpoint
	fallen     *Restart  // a shell has ended and no other has taken its place yet
	dirty      bool      // a run has ended since checkpoint was taken
	dirtySince time.Time // when the first of them began; zero: long ago
	fresh      bool      // nothing has run yet in the shell, which has the manager's environment
	syncs      uint64    // number of the last sync
	unenv      string    // the file that takes the last run's own environment back, "": that was done
	unenvs     int       // how many there were
	tmoutLent  bool      // the last run was given a TMOUT
	ended      bool      // its processes have been ended
	needSync   bool      // an interrupt was sent: have the shell answer before the next run
	alarm      alarm
}

// ID is the session's name, a UUID.
func (s *Session) ID() string { return s.id }

// Done returns a channel that is closed when the session has ended and no process, file
// or goroutine of it is left.
func (s *Session) Done() <-chan struct{} { return s.done }

// Info returns what is known of the session now.
func (s *Session) Info() Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := Info{ID: s.id, Name: s.name, State: Idle, Cwd: s.cwd, CreatedAt: s.created, ActiveAt: s.active, Clients: s.clients, Queued: len(s.queue)}
	i.State, i.Run = s.stateLocked()
	return i
}

// directory is where the session is, as far as is known.
func (s *Session) directory() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cwd
}

func (s *Session) stateLocked() (State, *RunInfo) {
	if s.current == nil || s.current.info.State != RunRunning {
		return Idle, nil
	}
	info := s.current.info
	return Running, &info
}

// Rename gives the session another name.
func (s *Session) Rename(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.name = name
	return nil
}

// end makes the session end its runs and its processes and take no more; close makes it
// end altogether. Both return at once.
func (s *Session) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLocked()
}

func (s *Session) endLocked() {
	if !s.isEnding {
		s.isEnding = true
		close(s.ending)
	}
}

func (s *Session) close(reason CloseReason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeLocked(reason)
}

func (s *Session) closeLocked(reason CloseReason) {
	s.endLocked()
	if s.reason == "" {
		s.reason = reason
		close(s.closing)
	}
}

// closeIfIdle closes a session that has been of no use to anybody for so long, and reports
// whether it did.
func (s *Session) closeIfIdle(now time.Time, limit time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients > 0 || s.current != nil || len(s.queue) > 0 || now.Sub(s.active) <= limit {
		return false
	}
	s.closeLocked(CloseIdle)
	return true
}

func (s *Session) shellPid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pid
}

// processes are all of the session's; ofRun are those that a run started, and the shell.
func (s *Session) processes() procSet {
	return procSet{newLabel(s.m.serverID, s.seq, 0), wholeSession, s.m.census}
}

func (s *Session) ofRun(r *Run) procSet {
	return procSet{s.runLabel(r.Number()), wholeRun, s.m.census}
}

// runLabel is the label of the run of that number, which is never that of completions.
func (s *Session) runLabel(number uint64) label {
	return newLabel(s.m.serverID, s.seq, number%completionRun)
}

func cut(s string) string {
	if len(s) > 128 {
		return s[:128]
	}
	return s
}
