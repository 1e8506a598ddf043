package sessions

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
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

// Times of the engine, all of them trade-offs and none of them promises to clients.
const (
	// checkpointDelay is how long a session is idle before its state is saved, so that
	// the next of a quick succession of runs does not wait for it; checkpointEvery is
	// when it is saved between two of them all the same.
	checkpointDelay = 25 * time.Millisecond
	checkpointEvery = time.Second

	// answerLimit is how long a shell may take to answer the driver at a time when it
	// has nothing else to do. One that does not is beyond help and is replaced.
	answerLimit = 5 * time.Second
)

// A Session is one persistent shell, the queue of runs for it, and the journal of all that
// happened. Its methods may be called from any goroutine and none waits for the shell.
//
// One goroutine, loop, owns the shell: see the package documentation.
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

	// The rest belongs to loop.
	sh         *shell
	code       codeFile // of the current run
	out        [2]*pipe // stdout and stderr of the current run
	outPath    [2]string
	outOwner   [2]*atomic.Uint64 // the number of the run that writes to out
	late       []*pipe           // of earlier runs, held by processes that live on
	fifos      int               // how many were made, for their names
	status     int               // $? of the last run
	opts       []string          // of driverOptions: those the user has on
	tmout      string
	prompt     bool
	debug      bool // the DEBUG trap may be another than checkpoint has
	wild       bool // the shell itself still has opts and tmout on
	copies     bool // the shell may have copied a run's output to other descriptors
	rearm      bool
	checkpoint *checkpoint
	fallen     *Restart  // a shell has ended and no other has taken its place yet
	saved      time.Time // when checkpoint was taken
	dirty      bool      // a run has ended since
	fresh      bool      // nothing has run yet in the shell, which has the manager's environment
	syncs      uint64    // number of the last sync
	ownEnv     bool      // the last run had an environment of its own, not yet taken back
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

// Submit queues a run behind those submitted before it and returns it at once. Where the
// session remembers a run of the same ID and code, that one is returned and created is
// false. It fails with [ErrInvalid], [ErrTooLarge], [ErrRunExists] (same ID, other code),
// [ErrQueueFull] or [ErrClosed].
func (s *Session) Submit(req RunRequest) (run *Run, created bool, err error) {
	if err := req.check(s.m.cfg.MaxCode, s.m.cfg.MaxEnv); err != nil {
		return nil, false, err
	}
	if req.ID == "" {
		req.ID = uuid.NewString()
	}
	sum := codeSum(req.Code)
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.byID[req.ID]; old != nil {
		if old.sum != sum {
			return nil, false, failf(ErrRunExists, "run_id %q was used in this session for other code: choose another", req.ID)
		}
		return old, false, nil
	}
	if s.isEnding {
		return nil, false, failf(ErrClosed, "the session is being closed and takes no more runs")
	}
	if len(s.queue) >= s.m.cfg.MaxQueue {
		return nil, false, failf(ErrQueueFull, "%d runs wait in this session, which is the limit: wait for one to end", len(s.queue))
	}
	if waiting := s.waitingLocked(); waiting > 0 && waiting+req.size() > maxWaiting {
		return nil, false, failf(ErrQueueFull, "%d bytes of code and input wait in this session, and at most %d may: wait for a run to end", waiting, maxWaiting)
	}
	r := s.newRunLocked(req, sum)
	ahead := len(s.queue)
	if s.current != nil {
		ahead++
	}
	if ahead > 0 && req.OnQueued != nil {
		req.OnQueued(ahead)
	}
	s.queue = append(s.queue, r)
	s.rememberLocked(r)
	s.active = r.queued
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return r, true, nil
}

// maxWaiting bounds what the runs that wait in a session hold in memory. One may always wait.
const maxWaiting = 4 * MaxCode

func (s *Session) waitingLocked() (size int) {
	for _, r := range s.queue {
		size += r.req.size()
	}
	return size
}

func (s *Session) newRunLocked(req RunRequest, sum [32]byte) *Run {
	s.next++
	code, cut := shown(req.Code)
	_, end := s.journal.bounds()
	r := &Run{
		s: s, req: req, sum: sum, from: end, queued: time.Now(), tethered: req.Tethered, timeout: req.Timeout,
		started: make(chan struct{}), done: make(chan struct{}), poke: make(chan struct{}, 1),
		info: RunInfo{ID: req.ID, Number: s.next, State: RunQueued, Code: code, CodeTruncated: cut, By: req.By, Cwd: s.cwd, First: end},
	}
	if limit := s.m.cfg.RunTimeout; limit > 0 && (r.timeout == 0 || r.timeout > limit) {
		r.timeout = limit
	}
	switch req.Stdin {
	case OpenStdin:
		r.stdin = newStdin(nil, false, s.m.cfg.Observer)
	case TextStdin:
		r.stdin = newStdin(req.StdinText, true, s.m.cfg.Observer)
	}
	return r
}

// rememberLocked adds a run to the history, and forgets the oldest that have ended.
func (s *Session) rememberLocked(r *Run) {
	s.runs = append(s.runs, r)
	s.byID[r.req.ID] = r
	for len(s.runs) > s.m.cfg.RunHistory {
		i := slices.IndexFunc(s.runs, func(r *Run) bool { return r.info.State == RunDone })
		if i < 0 {
			return
		}
		delete(s.byID, s.runs[i].req.ID)
		if i == 0 { // as nearly always: the others need not move
			s.runs[0] = nil
			s.runs = s.runs[1:]
		} else {
			s.runs = slices.Delete(s.runs, i, i+1)
		}
	}
}

// Run returns a run that the session remembers, or fails with [ErrRunNotFound].
func (s *Session) Run(id string) (*Run, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.byID[id]; r != nil {
		return r, nil
	}
	return nil, failf(ErrRunNotFound, "this session knows no run %q", cut(id))
}

// Current returns the run that is on, or nil.
func (s *Session) Current() *Run {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state, _ := s.stateLocked(); state == Idle {
		return nil
	}
	return s.current
}

// Runs returns the runs that the session remembers, newest first.
func (s *Session) Runs() []*Run {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*Run, 0, len(s.runs))
	for i := len(s.runs) - 1; i >= 0; i-- {
		out = append(out, s.runs[i])
	}
	return out
}

// runningLocked returns the current run if runID is "" or names it.
func (s *Session) runningLocked(runID string) (*Run, error) {
	r := s.current
	switch {
	case runID == "" && (r == nil || r.info.State != RunRunning):
		return nil, failf(ErrRunNotRunning, "nothing is running in this session")
	case runID == "":
		return r, nil
	}
	r = s.byID[runID]
	if r == nil {
		return nil, failf(ErrRunNotRunning, "run %q is not running: this session knows no run of that id", cut(runID))
	}
	if r.info.State != RunRunning {
		return nil, failf(ErrRunNotRunning, "run %q is not running: it is %s", runID, r.info.State)
	}
	return r, nil
}

// Interrupt interrupts the run, "" meaning the one that is on, as Ctrl-C would, and returns
// without waiting for it to end. With force, TERM follows after a second and KILL after
// one more, to what the run started, and the shell itself is ended last. It fails with
// [ErrRunNotRunning].
func (s *Session) Interrupt(runID string, force bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.runningLocked(runID)
	if err != nil {
		return err
	}
	s.active = time.Now()
	r.interrupts++
	r.force = r.force || force
	r.wake()
	return nil
}

// Signal sends a signal, by name with or without SIG, to what the run started and never to
// the shell. It fails with [ErrInvalid] or [ErrRunNotRunning].
func (s *Session) Signal(runID, name string) error {
	sig, err := parseSignal(name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	r, err := s.runningLocked(runID)
	if err == nil {
		s.active = time.Now()
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	s.m.log.Debug("signal", "session", s.id, "run", r.ID(), "signal", sig)
	s.ofRun(r).signalAll(sig, s.shellPid())
	return nil
}

// Cancel takes the run out of the queue, or ends it as a forced Interrupt does. It fails
// with [ErrRunNotFound], or [ErrRunNotRunning] when the run has ended.
func (s *Session) Cancel(runID string) error {
	s.mu.Lock()
	r := s.byID[runID]
	ended := r != nil && r.info.State == RunDone
	s.mu.Unlock()
	switch {
	case r == nil:
		return failf(ErrRunNotFound, "this session knows no run %q", cut(runID))
	case ended:
		return failf(ErrRunNotRunning, "run %q has ended already", runID)
	}
	s.cancel(r, func() bool { return true })
	return nil
}

// cancel cancels a run if it has not ended and, asked under the lock, it still should be.
func (s *Session) cancel(r *Run, stillLocked func() bool) {
	s.mu.Lock()
	if stillLocked() {
		s.active = time.Now()
		s.cancelLocked(r)
	}
	over := r.info.State == RunDone && r.info.StartedAt.IsZero()
	s.mu.Unlock()
	if over {
		s.logEnd(r)
	}
}

func (s *Session) cancelLocked(r *Run) {
	switch r.info.State {
	case RunQueued:
		if i := slices.Index(s.queue, r); i >= 0 {
			s.queue = slices.Delete(s.queue, i, i+1)
			s.finishLocked(r, outcome{reason: ReasonCanceled})
			return
		}
		fallthrough // it is between the queue and the shell
	case RunRunning:
		r.canceled = true
		r.wake()
	}
}

// AttachOptions say where a reader begins and what it is. At most one of After, Tail and
// Oldest may be set; none means: only what comes from now on.
type AttachOptions struct {
	After  *uint64 // everything from this position on
	Tail   *uint64 // up to this many positions back
	Oldest bool    // everything that is kept
	Viewer bool    // never holds a command back; sees a Gap instead
	Lag    uint64  // hold commands back when so many positions were not read; 0: when half of the retention is full
	Client bool    // counts against MaxClients and in Info.Clients

	// Unhurried is for who has nothing to do with the start of a run until something
	// follows it: that alone does not make the reader ready.
	Unhurried bool
	By        string // which door asked, for the Observer: "rest" or "ws"
}

// A Snapshot is what a session was at the very moment a reader was added: nothing lies
// between it and the first entry the reader returns.
type Snapshot struct {
	Pos    uint64 // where the reader begins
	Oldest uint64
	End    uint64 // where the journal ended
	State  State
	Cwd    string
	Run    *RunInfo // the one running
}

// Attach adds a reader of the journal, which the caller must close. It fails with
// [ErrInvalid] for a position beyond the end, [ErrTooMany] or [ErrClosed].
func (s *Session) Attach(o AttachOptions) (*Reader, Snapshot, error) {
	if o.After != nil && (o.Tail != nil || o.Oldest) {
		return nil, Snapshot{}, failf(ErrInvalid, "after and tail exclude each other: give one of them")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.Client && s.clients >= s.m.cfg.MaxClients {
		return nil, Snapshot{}, failf(ErrTooMany, "%d clients are attached to this session, which is the limit", s.clients)
	}
	snap := Snapshot{Cwd: s.cwd}
	snap.State, snap.Run = s.stateLocked()
	r, err := s.journal.attach(o, func(oldest, end uint64) (uint64, error) {
		snap.Oldest, snap.End, snap.Pos = oldest, end, end
		switch {
		case o.After != nil && *o.After > end:
			return 0, failf(ErrInvalid, "position %d is beyond the end, %d: give one that was reached", *o.After, end)
		case o.After != nil:
			snap.Pos = *o.After
		case o.Oldest:
			snap.Pos = oldest
		case o.Tail != nil:
			snap.Pos = max(oldest, end-min(end, *o.Tail))
		}
		return snap.Pos, nil
	})
	if err != nil {
		return nil, Snapshot{}, err
	}
	if o.Client {
		s.clients++
		s.active = time.Now()
	}
	s.m.cfg.Observer.ReaderAttached(o.By, o.Viewer)
	r.onClose = func() { s.detach(o) }
	return r, snap, nil
}

// detach is what closes a reader that Attach has added.
func (s *Session) detach(o AttachOptions) {
	s.m.cfg.Observer.ReaderDetached(o.By, o.Viewer)
	if !o.Client {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients--
	s.active = time.Now()
}

// gapInfo tells what a reader needs to know of positions that are gone.
func (s *Session) gapInfo(from, to uint64) *GapInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := &GapInfo{To: to}
	for _, r := range s.runs {
		i := r.info
		switch {
		case i.State == RunDone && i.Last >= from && i.Last < to:
			g.Finished = append(g.Finished, i)
		case !i.StartedAt.IsZero() && i.First < to && (i.State == RunRunning || i.Last >= to):
			i.State = RunRunning
			g.Running = &i
		}
	}
	return g
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

// loop is the session's goroutine: it owns the shell from the first to the last and runs
// one thing at a time.
func (s *Session) loop() {
	defer close(s.done)
	s.alarm.by(0)
	defer s.alarm.stop()
	var rested time.Time // since when nothing was run
	for {
		if r := s.nextRun(); r != nil {
			s.execute(r)
			rested = time.Now()
			s.alarm.by(checkpointDelay)
			continue
		}
		s.answerState()
		var said <-chan struct{}
		var gone <-chan struct{}
		if s.sh != nil {
			said, gone = s.sh.notify, s.sh.exited
		}
		select {
		case <-s.wake:
		case <-said:
			s.sh.take() // reports that came twice
		case <-gone:
			if s.endingNow() { // it is we who ended it
				s.shutDown()
				return
			}
			s.replaceShell(s.autopsy(0))
			s.alarm.by(checkpointDelay)
		case <-s.alarm.c():
			s.alarm.rang()
			if left := checkpointDelay - time.Since(rested); left > 0 {
				s.alarm.by(left)
			} else {
				s.saveState()
				s.rest()
			}
		case <-s.ending:
			s.shutDown()
			return
		}
	}
}

// nextRun takes the first run out of the queue, having saved the state first if that has
// not been done for long.
func (s *Session) nextRun() *Run {
	if s.dirty && (s.debug || time.Since(s.saved) > checkpointEvery) {
		s.saveState()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
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
// the runs, the one that was on already having been ended by execute; then, once asked
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

// outPipes makes sure the next run has FIFOs of its own for its output, and gives them its
// number.
func (s *Session) outPipes(number uint64) error {
	alive := s.late[:0]
	for _, p := range s.late {
		if !p.ended() {
			alive = append(alive, p)
		}
	}
	clear(s.late[len(alive):])
	s.late = alive
	for i, kind := range []Kind{Stdout, Stderr} {
		if s.out[i] != nil && s.out[i].linked() {
			s.out[i].hold()
			continue
		}
		if s.out[i] != nil {
			s.out[i].close() // somebody deleted it
		}
		s.fifos++
		path := filepath.Join(s.dir, strconv.Itoa(s.fifos))
		owner := new(atomic.Uint64)
		p, err := openFIFO(path, s.m.buffers, s.journal.room, func(b []byte) bool {
			return s.journal.write(kind, owner.Load(), b)
		})
		if err != nil {
			return err
		}
		// Both together must fit in the part of the journal that is drained into.
		p.letWiden(s.m.cfg.Retention / 8)
		s.out[i], s.outPath[i], s.outOwner[i] = p, path, owner
	}
	for _, o := range s.outOwner {
		o.Store(number)
	}
	return nil
}

// drainOut takes what the run's pipes hold.
func (s *Session) drainOut() {
	for _, p := range s.out {
		if p != nil {
			p.drain()
		}
	}
}

// retireOut lets go of those of the run's pipes that outlive it. Where the shell is alone there
// is nobody else who could have them open.
func (s *Session) retireOut() {
	if s.sh != nil && !s.copies && s.cgroup.holdsOnly(s.sh.pid) {
		return
	}
	for i, p := range s.out {
		if p != nil && !p.retire() {
			s.late = append(s.late, p)
			s.out[i] = nil
			os.Remove(s.outPath[i])
		}
	}
}

// dropOut lets go of the pipes for output, whose names are gone.
func (s *Session) dropOut() {
	for i, p := range s.out {
		if p != nil {
			p.drain()
			p.close()
			s.out[i] = nil
			os.Remove(s.outPath[i])
		}
	}
}

func cut(s string) string {
	if len(s) > 128 {
		return s[:128]
	}
	return s
}
